"""The cell folded over time by `jax.lax.scan`: runs on every platform, differentiates to any order.

**The derivative.** Differentiating the scan itself would add `dz_t h_{t-1}^T` to a `[4H, P]` accumulator at every
step. Here the tangent is written as one product over all steps for what the tangents of x and of each parameter bring,
and a second scan that is linear in the state's tangent and holds the weights constant. Transposing it therefore gives
x's and each weight's gradient as one product over all steps, and since it is made of ordinary JAX, forward mode,
`vmap`, `jax.checkpoint` and higher orders work on it.

**The layout.** Inside, features come first: state `[P, B]` and `[H, B]`, gates `[4H, B]`, so that a gate is a
contiguous block and each product reads its left operand along its rows, which XLA's CPU backend does best.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm._cell import Gates, activate, advance, step
from jaxlstm._stack import h_before, valid_steps, where_state
from jaxlstm._types import LSTMCellParams, LSTMState
from jaxlstm.implementations._product import multiply, product, with_transpose


class Weights(NamedTuple):
    """A cell's parameters, with one bias."""

    weight_ih: jax.Array  # [4H, I]
    weight_hh: jax.Array  # [4H, P]
    bias: jax.Array | None  # [4H]
    weight_hr: jax.Array | None  # [P, H]


class Inputs(NamedTuple):
    """What a step is given besides the state; over all steps with T before."""

    x: jax.Array  # [B, I]
    begin: jax.Array | None  # bool[B]
    valid: jax.Array | None  # bool[B]


def layer(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    reset_state: LSTMState | None = None,
    *,
    lengths: jax.Array | None = None,
    begins: jax.Array | None = None,
    reverse: bool = False,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, LSTMState]:
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it.

    For the backward pass it keeps, per step and row, 4H gates and H of c, besides x and the output: 20 H bytes in
    float32. With `checkpoint_every=k` it keeps every k-th state instead, and all that of k steps at a time.
    """
    inputs = Inputs(x, begins, None if lengths is None else valid_steps(lengths, x.shape[0]))
    if x.shape[0] == 1:
        return _single(params, state, reset_state, jax.tree.map(lambda a: a[0], inputs))
    bias = None
    if params.bias_ih is not None and params.bias_hh is not None:
        bias = params.bias_ih.astype(state.c.dtype) + params.bias_hh.astype(state.c.dtype)
    weights = Weights(params.weight_ih, params.weight_hh, bias, params.weight_hr)
    run = functools.partial(_fold, reverse, unroll or 1, weights, _turned(reset_state))
    if checkpoint_every is None:
        y, end = run(_turned(state), inputs)
    else:
        y, end = _checkpointed(run, _turned(state), inputs, checkpoint_every, reverse=reverse)
    return y, _turned(end)


def _single(
    params: LSTMCellParams, state: LSTMState, reset_state: LSTMState | None, inputs: Inputs
) -> tuple[jax.Array, LSTMState]:
    """One step alone, as when a model streams: laying weights out anew would take longer than the step itself."""

    def move(start: LSTMState):
        return _turned(step(params, _turned(start), inputs.x)), None

    end, y, _ = _guarded(move, _turned(state), _turned(reset_state), inputs.begin, inputs.valid, inputs.x.dtype)
    return y[None], _turned(end)


StateOrNone = TypeVar("StateOrNone", LSTMState, LSTMState | None)


def _turned(state: StateOrNone) -> StateOrNone:
    """Features first, or back."""
    return jax.tree.map(lambda s: s.T, state)


def _checkpointed(run, state: LSTMState, inputs: Inputs, every: int, *, reverse: bool):
    """`run` over chunks of at most `every` steps, of which the backward pass keeps only the states between."""
    run = jax.checkpoint(run, prevent_cse=False)
    num_steps = inputs.x.shape[0]
    length = _chunk_length(num_steps, min(every, num_steps))
    rest = num_steps % length
    whole = num_steps - rest
    chunks = jax.tree.map(lambda a: a[:whole].reshape(whole // length, length, *a.shape[1:]), inputs)
    tail = jax.tree.map(lambda a: a[whole:], inputs)

    def chunk(state, inputs):
        y, state = run(state, inputs)
        return state, y

    y_tail = None
    if reverse and rest != 0:
        y_tail, state = run(state, tail)
    state, y = lax.scan(chunk, state, chunks, reverse=reverse)
    y = y.reshape(whole, *y.shape[2:])
    if not reverse and rest != 0:
        y_tail, state = run(state, tail)
    return (y if y_tail is None else jnp.concatenate([y, y_tail])), state


def _chunk_length(num_steps: int, every: int) -> int:
    """`every`, or a length down to its half that leaves no rest: cutting a rest off copies the whole input."""
    return next((length for length in range(every, every // 2, -1) if num_steps % length == 0), every)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _fold(
    reverse: bool, unroll: int, weights: Weights, reset_state: LSTMState | None, state: LSTMState, inputs: Inputs
):
    """Output `[T, B, P]` and final state of one direction."""
    sums = _sums(weights, state.c.shape[1], state.c.dtype)

    def body(state, inputs):
        state, y, _ = _step(sums, weights.weight_hr, reset_state, state, inputs)
        return state, y

    state, y = lax.scan(body, state, inputs, reverse=reverse, unroll=unroll)
    return y, state


@_fold.defjvp
def _fold_jvp(reverse, unroll, primals, tangents):
    weights, reset_state, state, inputs = primals
    d_weights, d_reset_state, d_state, d_inputs = tangents
    dtype = state.c.dtype
    sums = _sums(weights, state.c.shape[1], dtype)

    def body(state, inputs):
        state, y, kept = _step(sums, weights.weight_hr, reset_state, state, inputs)
        return state, (y, kept)

    end, (y, kept) = lax.scan(body, state, inputs, reverse=reverse, unroll=unroll)

    def all_steps(d_weight, operand):
        """`d_weight` `[M, K]` times every step's operand `[T, B, K]`, to `[M, T, B]`."""
        return multiply(d_weight, _features_first(operand), dtype)

    # The barrier keeps XLA from writing x's gradient transposed, which makes its product 1.4 times as slow.
    d_x = lax.optimization_barrier(_features_first(d_inputs.x)).astype(dtype)
    d_sums = product(with_transpose(weights.weight_ih), d_x) + all_steps(d_weights.weight_ih, inputs.x)
    reset_h = None if reset_state is None else reset_state.h.T
    h = h_before(y, state.h.T, reset_h, begins=inputs.begin, valid=inputs.valid, reverse=reverse)
    d_sums += all_steps(d_weights.weight_hh, h)
    if d_weights.bias is not None:
        d_sums += d_weights.bias[:, None, None]
    d_projected = None
    if d_weights.weight_hr is not None:
        h, _ = advance(kept.gates, kept.c)
        d_projected = _by_step(all_steps(d_weights.weight_hr, h.swapaxes(1, 2)))

    linear_weights = jax.tree.map(with_transpose, (weights.weight_hh, weights.weight_hr))

    # Recomputed in the backward pass: from the gates in cache, slopes are cheaper than read back from memory.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def linear_body(d_state, per_step):
        return _linear_step(linear_weights, d_reset_state, d_state, y.dtype, *per_step)

    per_step = kept, inputs.begin, inputs.valid, _by_step(d_sums), d_projected
    d_state, d_y = lax.scan(linear_body, d_state, per_step, reverse=reverse, unroll=unroll)
    return (y, end), (d_y, d_state)


def _features_first(a: jax.Array) -> jax.Array:
    """`[T, B, K]` to `[K, T, B]`: time and batch stay apart, for a mesh may hold one of them in pieces."""
    return a.transpose(2, 0, 1)


def _by_step(a: jax.Array) -> jax.Array:
    """`[M, T, B]` to `[T, M, B]`."""
    return a.swapaxes(0, 1)


class Kept(NamedTuple):
    """What the linear step needs of a step."""

    gates: Gates  # active, [H, B] each
    c: jax.Array  # [H, B], before the step


def _sums(weights: Weights, batch_size: int, dtype) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`W_ih x + W_hh h + b` as a function of x `[I, B]` and h `[P, B]`."""
    bias = 0 if weights.bias is None else weights.bias[:, None]
    # One core and two of a Zen 5: joined takes 0.77 of the time at B = 1 and 0.9 at B = 8, but up to 1.5 from B = 16,
    # where XLA splits the larger product over threads that it must wake.
    if isinstance(batch_size, int) and batch_size < 16:  # An exported program may leave it open.
        joined = jnp.concatenate([weights.weight_ih, weights.weight_hh], axis=1)
        return lambda x, h: multiply(joined, jnp.concatenate([x, h]), dtype) + bias
    return lambda x, h: multiply(weights.weight_ih, x, dtype) + multiply(weights.weight_hh, h, dtype) + bias


def _step(
    sums, weight_hr: jax.Array | None, reset_state: LSTMState | None, state: LSTMState, inputs: Inputs
) -> tuple[LSTMState, jax.Array, Kept]:
    """The state after one step, its output `[B, P]`, and what its derivative needs."""
    dtype = state.c.dtype

    def move(start: LSTMState):
        gates = activate(_split(sums(inputs.x.T, start.h.astype(inputs.x.dtype))))
        h, c = advance(gates, start.c)
        if weight_hr is not None:
            h = multiply(weight_hr, h, dtype)
        return LSTMState(h, c), Kept(gates, start.c)

    return _guarded(move, state, reset_state, inputs.begin, inputs.valid, inputs.x.dtype)


def _linear_step(
    weights, d_reset_state: LSTMState | None, d_state: LSTMState, dtype, kept: Kept, begin, valid, d_sums, d_projected
):
    """The tangent of `_step` in the state; `d_sums` and `d_projected` hold the share of x and the weights."""
    weight_hh, weight_hr = weights

    def move(start: LSTMState):
        d_gates = _activate_tangent(kept.gates, _split(product(weight_hh, start.h) + d_sums))
        _, (h, c) = jax.jvp(advance, (kept.gates, kept.c), (d_gates, start.c))
        return LSTMState(h if weight_hr is None else product(weight_hr, h) + d_projected, c), None

    d_state, d_y, _ = _guarded(move, d_state, d_reset_state, begin, valid, dtype)
    return d_state, d_y


def _activate_tangent(gates: Gates, d_sums: Gates) -> Gates:
    """The tangent of `activate`, from its results: sigmoid' = s (1 - s), tanh' = 1 - t^2."""
    i, f, g, o = gates
    d_i, d_f, d_g, d_o = d_sums
    return i * (1 - i) * d_i, f * (1 - f) * d_f, (1 - g * g) * d_g, o * (1 - o) * d_o


def _split(gates: jax.Array) -> Gates:
    i, f, g, o = jnp.split(gates, 4)
    return i, f, g, o


def _guarded(
    move: Callable,
    state: LSTMState,
    reset_state: LSTMState | None,
    begin: jax.Array | None,
    valid: jax.Array | None,
    dtype,
):
    """`move` from `reset_state` where a row begins anew, and not at all where its step is padding; output 0 there."""
    start = state if begin is None else where_state(begin[None], reset_state, state)
    after, kept = move(start)
    if valid is None:
        return after, after.h.T.astype(dtype), kept
    after = where_state(valid[None], after, state)
    return after, jnp.where(valid[:, None], after.h.T, 0).astype(dtype), kept
