"""A problem for any one-layer function, all its derivatives, and the plain scan that they must equal."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxlstm
from jaxlstm import _stack
from jaxlstm._rule import step
from jaxlstm.cells import LSTM

T, B, I, H, P = 5, 3, 3, 4, 2  # noqa: E741


def plain_layer(cell, params, x, state, reset_state, *, lengths, begins, reverse):
    """The cell under `lax.scan` with nothing else: what the derivative rule must equal."""
    valid = jnp.ones(x.shape[:2], bool) if lengths is None else _stack.valid_steps(lengths, x.shape[0])
    begins = jnp.zeros(x.shape[:2], bool) if begins is None else begins
    anew = jax.tree.map(jnp.zeros_like, state) if reset_state is None else reset_state

    def choose(mask, there, elsewhere):
        return jax.tree.map(lambda a, b: jnp.where(mask, a, b), there, elsewhere)

    def body(state, inputs):
        x, begin, valid = (a[:, None] if a.ndim == 1 else a for a in inputs)
        after, y = step(cell, params, choose(begin, anew, state), x)
        return choose(valid, after, state), jnp.where(valid, y, 0)

    final, y = jax.lax.scan(body, state, (x, begins, valid), reverse=reverse)
    return y, final


def problem(num_layers=2, proj_size=0, bidirectional=False, ragged=False, resets=False, bias=True, cell=LSTM):
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
    x = jax.random.normal(next(key), (T, B, I))
    lead = (num_layers * (1 + bidirectional), B)
    widths = [proj_size or H] + [H] * (len(cell.state._fields) - 1)
    state = cell.state(*(jax.random.normal(next(key), (*lead, width)) for width in widths))
    options: dict[str, Any] = {
        "lengths": jnp.array([T, 0, 3], jnp.int32) if ragged else None,
        "resets": jax.random.bernoulli(next(key), 0.3, (T, B)) if resets else None,
    }
    direction = jax.tree.map(lambda a: jax.random.normal(jax.random.key(a.size), a.shape), (params, x, state))
    return (params, x, state), direction, options


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
