"""A problem for any one-layer function, all its derivatives, and the plain scan that they must equal."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxlstm
from jaxlstm import _stack
from jaxlstm._floats import floats, joined
from jaxlstm._step import step
from jaxlstm.cells import LSTM

T, B, I, H, P = 5, 3, 3, 4, 2  # noqa: E741


class Mixed(NamedTuple):
    """h, a matrix a row, a count of steps, and the key that the next step draws from."""

    h: jax.Array
    memory: jax.Array
    taken: jax.Array
    key: jax.Array


def _mixed(extra, state, x_sums, h_sums):
    key, draw = jax.random.split(state.key)
    a, b = jnp.tanh(x_sums + extra["gain"] * h_sums)
    memory = 0.5 * state.memory + jnp.outer(a, extra["write"])
    h = jnp.where(jax.random.bernoulli(draw, 0.3, a.shape), state.h, b * memory.sum(1))
    return Mixed(h, memory, state.taken + 1, key), h * jnp.cos(state.taken.astype(h.dtype))


def _draw_extra(key, hidden_size, dtype):
    gain, write = jax.random.split(key)
    return {"gain": jax.random.normal(gain, (2, hidden_size), dtype), "write": jax.random.normal(write, (2,), dtype)}


MIXED = jaxlstm.Cell(_mixed, num_gates=2, state=Mixed, init_extra=_draw_extra)
"""Zoneout, with fields of every kind, sums that it doesn't only add, and an output that is not h."""


def plain_layer(cell, params, x, state, reset_state, *, lengths, resets, reverse):
    """The cell under `lax.scan` with nothing else: what the derivative rule must equal."""
    valid = jnp.ones(x.shape[:2], bool) if lengths is None else _stack.valid_steps(lengths, x.shape[0])
    resets = jnp.zeros(x.shape[:2], bool) if resets is None else resets

    def choose(mask, there, elsewhere):
        return jax.tree.map(lambda a, b: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b), there, elsewhere)

    def zero(a):
        return a if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else jnp.zeros_like(a)

    def body(state, inputs):
        x, begin, valid = inputs
        anew = jax.tree.map(zero, state) if reset_state is None else reset_state
        after, y = step(cell, params, choose(begin, anew, state), x)
        return choose(valid, after, state), jnp.where(valid[:, None], y, 0)

    final, y = jax.lax.scan(body, state, (x, resets, valid), reverse=reverse)
    return y, final


def problem(num_layers=2, proj_size=0, bidirectional=False, ragged=False, resets=False, bias=True, cell=LSTM, steps=T):
    key = iter(jax.random.split(jax.random.key(0), 9))
    params = jaxlstm.init_fold(
        next(key),
        cell,
        I,
        H,
        num_layers,
        bias=bias,
        bidirectional=bidirectional,
        proj_size=proj_size,
        dtype=jnp.float64,
    )
    x = jax.random.normal(next(key), (steps, B, I))
    lead = (num_layers * (1 + bidirectional), B)
    widths = [proj_size or H] + [H] * (len(cell.state._fields) - 1)
    state = cell.state(*(jax.random.normal(next(key), (*lead, width)) for width in widths))
    if cell is MIXED:
        memory, count = jax.random.normal(next(key), (*lead, H, 2)), jnp.arange(lead[0] * B, dtype=jnp.int32)
        state = Mixed(state.h, memory, count.reshape(lead), jax.random.split(next(key), lead))
    options: dict[str, Any] = {
        "lengths": jnp.array([steps, 0, min(steps, 3)], jnp.int32) if ragged else None,
        "resets": jax.random.bernoulli(next(key), 0.3, (steps, B)).at[0, 0].set(True) if resets else None,
    }
    draw = lambda a: jax.random.normal(jax.random.key(a.size), a.shape)  # noqa: E731
    return (params, x, state), jax.tree.map(draw, (params, x, floats(state))), options


def of_floats(function, state):
    """`function(params, x, state)` as one of the state's floats, and its results' floats: what has a derivative."""
    return lambda params, x, some: floats(function(params, x, joined(some, state)))


def dot(tree, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))


def loss_of(function):
    """A scalar in which every element of every result has its own weight, and a curvature of its own."""
    weigh = lambda a: jnp.sum(jnp.sin(a) * (1 + jnp.arange(a.size, dtype=a.dtype).reshape(a.shape)))  # noqa: E731
    return lambda *args: sum(map(weigh, jax.tree.leaves(function(*args))))


def everything(function, args, direction):
    """Value, jvp, gradient, and the second derivative by both orders of the two modes."""
    gradient = jax.grad(loss_of(function), argnums=(0, 1, 2))

    @jax.jit
    def all_at_once(args, direction):
        return {
            "value": function(*args),
            "jvp": jax.jvp(function, args, direction)[1],
            "gradient": gradient(*args),
            "forward over reverse": jax.jvp(gradient, args, direction)[1],
            "reverse over reverse": jax.grad(lambda args: dot(gradient(*args), direction))(args),
        }

    return all_at_once(args, direction)


def everything_of_reference(function, args, direction):
    """The same of what JAX differentiates by itself, so that both orders of the two modes are one."""
    gradient = jax.grad(loss_of(function), argnums=(0, 1, 2))

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
    def all_at_once(args, direction):
        value, jvp = jax.jvp(function, args, direction)
        first, second = jax.jvp(gradient, args, direction)
        return value, jvp, first, second

    value, jvp, first, second = all_at_once(args, direction)
    return {
        "value": value,
        "jvp": jvp,
        "gradient": first,
        "forward over reverse": second,
        "reverse over reverse": second,
    }
