"""The cell folded over time by `jax.lax.scan`: runs on every platform, differentiates to any order."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm._cell import input_gates, step
from jaxlstm._stack import valid_steps
from jaxlstm._types import LSTMCellParams, LSTMState


def _masked_step(params: LSTMCellParams, state: LSTMState, inputs) -> tuple[LSTMState, jax.Array]:
    """One step that may begin anew (`begin`) and may stand still (not `valid`)."""
    x, begin, valid = inputs
    start = state if begin is None else LSTMState(*(jnp.where(begin[:, None], 0, s) for s in state))
    after = step(params, start, input_gates(params, x, state.c.dtype))
    if valid is None:
        return after, after.h
    after = LSTMState(*(jnp.where(valid[:, None], new, old) for new, old in zip(after, state, strict=True)))
    return after, jnp.where(valid[:, None], after.h, 0)


def _checkpointed_scan(body, state, xs, every: int, *, reverse: bool, unroll: int):
    """`lax.scan` whose backward pass keeps every `every`-th state and recomputes the steps between."""
    chunk = jax.checkpoint(functools.partial(lax.scan, body, reverse=reverse, unroll=unroll), prevent_cse=False)
    num_chunks, rest = divmod(jax.tree.leaves(xs)[0].shape[0], every)
    split = num_chunks * every
    whole = jax.tree.map(lambda a: a[:split].reshape(num_chunks, every, *a.shape[1:]), xs)
    tail = jax.tree.map(lambda a: a[split:], xs)

    y_tail = None
    if rest and reverse:
        state, y_tail = chunk(state, tail)
    state, y = lax.scan(chunk, state, whole, reverse=reverse)
    y = y.reshape(split, *y.shape[2:])
    if rest and not reverse:
        state, y_tail = chunk(state, tail)
    return state, y if y_tail is None else jnp.concatenate([y, y_tail])


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
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it."""
    body = functools.partial(_masked_step, params)
    xs = (x, begins, None if lengths is None else valid_steps(lengths, x.shape[0]))
    if checkpoint_every is None:
        final, y = lax.scan(body, state, xs, reverse=reverse, unroll=unroll or 1)
    else:
        final, y = _checkpointed_scan(body, state, xs, checkpoint_every, reverse=reverse, unroll=unroll or 1)
    return y, final
