"""The cell folded over time by `jax.lax.scan`: runs on every platform, differentiates to any order.

Differentiating the scan itself would add `dz_t h_{t-1}^T` to a `[4H, P]` accumulator at every step. Here the tangent
is written as bulk products over all steps, plus a second scan that is linear in the tangents and holds the weights
constant. Transposing it therefore gives each weight gradient as one product over all steps, and since it is made of
ordinary JAX, forward mode, `vmap`, `jax.checkpoint` and higher orders work on it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm._cell import input_gates, matmul, recur, step
from jaxlstm._stack import valid_steps
from jaxlstm._types import LSTMCellParams, LSTMState


def layer(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    *,
    lengths: jax.Array | None = None,
    begins: jax.Array | None = None,
    reverse: bool = False,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, LSTMState]:
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it.

    The backward pass keeps, per step and row, x, `4H` gates, `H` of c and `P` of h.
    """
    valid = None if lengths is None else valid_steps(lengths, x.shape[0])
    run = functools.partial(_fold, reverse, unroll or 1, params)
    if checkpoint_every is None:
        return run(state, (x, begins, valid))
    return _checkpointed(run, state, (x, begins, valid), checkpoint_every, reverse=reverse)


def _checkpointed(run, state, inputs, every: int, *, reverse: bool):
    """`run` over chunks of `every` steps, of which the backward pass keeps the states between and nothing else."""
    run = jax.checkpoint(run, prevent_cse=False)
    num_steps = inputs[0].shape[0]
    whole = num_steps - num_steps % every
    chunks = jax.tree.map(lambda a: a[:whole].reshape(-1, every, *a.shape[1:]), inputs)
    rest = jax.tree.map(lambda a: a[whole:], inputs)

    def chunk(state, inputs):
        y, state = run(state, inputs)
        return state, y

    y_rest = None
    if reverse and whole < num_steps:
        y_rest, state = run(state, rest)
    state, y = lax.scan(chunk, state, chunks, reverse=reverse)
    y = y.reshape(whole, *y.shape[2:])
    if not reverse and whole < num_steps:
        y_rest, state = run(state, rest)
    return (y if y_rest is None else jnp.concatenate([y, y_rest])), state


def _guard(
    move: Callable[[LSTMState], LSTMState], state: LSTMState, begin: jax.Array | None, valid: jax.Array | None
) -> tuple[LSTMState, jax.Array]:
    """`move` from zero where a row begins anew, and not at all where its step is padding; and h, 0 at padding."""
    start = state if begin is None else LSTMState(*(jnp.where(begin[:, None], 0, s) for s in state))
    after = move(start)
    if valid is None:
        return after, after.h
    after = LSTMState(*(jnp.where(valid[:, None], new, old) for new, old in zip(after, state, strict=True)))
    return after, jnp.where(valid[:, None], after.h, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _fold(reverse, unroll, params, state, inputs):
    """Output `[T, B, P]` and final state of one direction; inputs are x, begins and valid."""

    def body(state, inputs):
        x, begin, valid = inputs
        move = lambda state: step(params, state, input_gates(params, x, state.c.dtype))  # noqa: E731
        state, h = _guard(move, state, begin, valid)
        return state, h.astype(x.dtype)

    state, y = lax.scan(body, state, inputs, reverse=reverse, unroll=unroll)
    return y, state


@_fold.defjvp
def _fold_jvp(reverse, unroll, primals, tangents):
    params, state, (x, begins, valid) = primals
    d_params, d_state, (d_x, _, _) = tangents
    dtype = state.c.dtype

    def body(state, inputs):
        x, begin, valid = inputs
        gates = None

        def move(state):
            nonlocal gates
            gates = input_gates(params, x, dtype) + matmul(state.h, params.weight_hh, dtype)
            h, c = recur(gates, state.c)
            return LSTMState(h if params.weight_hr is None else matmul(h, params.weight_hr, dtype), c)

        state, h = _guard(move, state, begin, valid)
        return state, (h.astype(x.dtype), gates, state.c)

    final, (y, gates, c) = lax.scan(body, state, (x, begins, valid), reverse=reverse, unroll=unroll)

    def before(after, initial):
        """What each step set out from, given what each step of its row arrived at."""
        shift = lambda a, edge: jnp.concatenate([a[1:], edge[None]] if reverse else [edge[None], a[:-1]])  # noqa: E731
        previous = shift(after, initial.astype(after.dtype))
        if valid is not None:
            previous = jnp.where(shift(valid, jnp.zeros_like(valid[0]))[..., None], previous, initial[None].astype(after.dtype))
        return previous if begins is None else jnp.where(begins[..., None], 0, previous)

    h_before, c_before = before(y, state.h), before(c, state.c)

    d_gates = input_gates(d_params, x, dtype) + matmul(d_x, params.weight_ih, dtype)
    d_gates += matmul(h_before, d_params.weight_hh, dtype)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    i, f, o, g, tanh_c = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g), jnp.tanh(c)
    slopes = (g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o), f, o * (1 - tanh_c * tanh_c))
    d_projection = None if params.weight_hr is None else matmul(o * tanh_c, d_params.weight_hr, dtype)

    def linear(d_state, inputs):
        d_gates, slopes, d_projection, begin, valid = inputs

        def move(d_state):
            d_i, d_f, d_g, d_o = jnp.split(d_gates + matmul(d_state.h, params.weight_hh, dtype), 4, axis=-1)
            at_i, at_f, at_g, at_o, at_c, at_h = slopes
            d_c = at_i * d_i + at_f * d_f + at_g * d_g + at_c * d_state.c
            d_h = at_o * d_o + at_h * d_c
            return LSTMState(d_h if d_projection is None else matmul(d_h, params.weight_hr, dtype) + d_projection, d_c)

        d_state, d_h = _guard(move, d_state, begin, valid)
        return d_state, d_h.astype(x.dtype)

    d_final, d_y = lax.scan(linear, d_state, (d_gates, slopes, d_projection, begins, valid), reverse=reverse, unroll=unroll)
    return (y, final), (d_y, d_final)
