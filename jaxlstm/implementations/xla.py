"""A cell folded over time by `jax.lax.scan`: runs on every platform, differentiates to any order.

**The derivative.** Differentiating the scan itself would add `dz_t h_{t-1}^T` to a `[G*H, P]` accumulator at every
step. Here the tangent is written as one product over all steps for what the tangents of x and of each parameter bring,
and a second scan that is linear in the state's tangent and holds the weights constant. Transposing it therefore gives
x's and each weight's gradient as one product over all steps, and since it is made of ordinary JAX, forward mode,
`vmap`, `jax.checkpoint` and higher orders work on it. Inside, the batch comes last: see `jaxlstm._derivative`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import zero_from_primal

from jaxlstm._derivative import GateInputs, Rule, of_cell
from jaxlstm._floats import floats, joined
from jaxlstm._mesh import varying_alike
from jaxlstm._stack import h_before, valid_steps, where_rows
from jaxlstm._step import step
from jaxlstm._types import Cell, CellParams
from jaxlstm.implementations._checkpoint import checkpointed
from jaxlstm.implementations._product import multiply, product, with_transpose


class Weights(NamedTuple):
    """A cell's parameters, with one bias where the rule only adds its sums."""

    weight_ih: jax.Array  # [G*H, I]
    weight_hh: jax.Array  # [G*H, P]
    bias: jax.Array | None  # [G*H], of x_sums
    bias_h: jax.Array | None  # [G*H], of h_sums
    weight_hr: jax.Array | None  # [P, H]
    extra: Any


class Inputs(NamedTuple):
    """What a step is given besides the state; over all steps with T before."""

    x: jax.Array  # [B, I]
    reset: jax.Array | None  # bool[B]
    valid: jax.Array | None  # bool[B]


class Loop(NamedTuple):
    """Everything about a fold that is no array."""

    rule: Rule
    reverse: bool
    unroll: int


def layer(
    cell: Cell,
    params: CellParams,
    x: jax.Array,
    state: Any,
    reset_state: Any = None,
    *,
    lengths: jax.Array | None = None,
    resets: jax.Array | None = None,
    reverse: bool = False,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, Any]:
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it.

    For the backward pass it keeps x, the output, and of each step and row 5H numbers of an LSTM (gates and c) or a GRU,
    of another cell its gate inputs and state. With `checkpoint_every=k` it keeps every k-th state instead, and all that
    of k steps at a time.
    """
    inputs = Inputs(x, resets, None if lengths is None else valid_steps(lengths, x.shape[0]))
    if x.shape[0] == 1:
        return _single(cell, params, state, reset_state, jax.tree.map(lambda a: a[0], inputs))
    start = _rows_last(state)
    rule = of_cell(cell, params.extra, start, params.weight_hh.shape[0] // cell.num_gates)
    loop = Loop(rule, reverse, unroll or 1)
    run = functools.partial(_fold, loop, _weights(params, rule, start.h.dtype), _rows_last(reset_state))
    if checkpoint_every is None:
        y, end = run(start, inputs)
    else:
        y, end = checkpointed(run, start, inputs, checkpoint_every, reverse=reverse)
    return y, _rows_first(end)


def _single(cell: Cell, params: CellParams, state: Any, reset_state: Any, inputs: Inputs) -> tuple[jax.Array, Any]:
    """One step alone, as when a model streams: laying weights out anew would take longer than the step itself."""

    def move(start):
        after, y = step(cell, params, _rows_first(start), inputs.x)
        return _rows_last(after), y.T, None

    end, y, _ = _guarded(move, _rows_last(state), _rows_last(reset_state), inputs.reset, inputs.valid, inputs.x.dtype)
    return y[None], _rows_first(end)


def _rows_last(state: Any) -> Any:
    """`[B, ...]` to `[..., B]`."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), state)


def _rows_first(state: Any) -> Any:
    return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), state)


def _weights(params: CellParams, rule: Rule, dtype) -> Weights:
    biases = [None if bias is None else bias.astype(dtype) for bias in (params.bias_ih, params.bias_hh)]
    if rule.adds and biases[0] is not None and biases[1] is not None:
        biases = [biases[0] + biases[1], None]
    bias, bias_h = biases
    return Weights(params.weight_ih, params.weight_hh, bias, bias_h, params.weight_hr, params.extra)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fold(loop: Loop, weights: Weights, reset_state: Any, state: Any, inputs: Inputs):
    """Output `[T, B, P]` and final state of one direction."""
    sums = _sums(loop, weights, state.h)

    def body(state, inputs):
        state, y, _ = _step(loop.rule, sums, weights, reset_state, state, inputs)
        return state, y

    state, y = lax.scan(body, state, inputs, reverse=loop.reverse, unroll=loop.unroll)
    return y, state


@_fold.defjvp
def _fold_jvp(loop: Loop, primals, tangents):
    weights, reset_state, state, inputs = primals
    d_weights, d_reset_state, d_state, d_inputs = tangents
    rule, dtype = loop.rule, state.h.dtype
    sums = _sums(loop, weights, state.h)

    def body(state, inputs):
        state, y, residuals = _step(rule, sums, weights, reset_state, state, inputs)
        return state, (y, residuals)

    end, (y, residuals) = lax.scan(body, state, inputs, reverse=loop.reverse, unroll=loop.unroll)

    # The barrier keeps XLA from writing x's gradient transposed, which makes its product 1.4 times as slow.
    d_x = lax.optimization_barrier(_features_first(d_inputs.x)).astype(dtype)
    of_x = product(with_transpose(weights.weight_ih), d_x)
    of_x += multiply(d_weights.weight_ih, _features_first(inputs.x), dtype)  # All steps at once, as below.
    if rule.residual_h is not None:
        h = _by_step(rule.residual_h(residuals))
    else:
        reset_h = None if reset_state is None else reset_state.h.T
        h = _features_first(
            h_before(y, state.h.T, reset_h, resets=inputs.reset, valid=inputs.valid, reverse=loop.reverse)
        )
    of_h = multiply(d_weights.weight_hh, h, dtype)
    if d_weights.bias is not None:
        of_x += d_weights.bias[:, None, None]
    if d_weights.bias_h is not None:
        of_h += d_weights.bias_h[:, None, None]
    d_sums = jax.tree.map(_by_step, rule.merge(of_x, of_h))
    d_projected = None
    if d_weights.weight_hr is not None:
        unprojected = jax.vmap(rule.output, in_axes=(None, 0))(weights.extra, residuals)
        d_projected = _by_step(multiply(d_weights.weight_hr, _by_step(unprojected), dtype))

    linear_weights = jax.tree.map(with_transpose, (weights.weight_hh, weights.weight_hr))
    d_extra, d_state, d_reset_state = (
        floats(d, like)
        for d, like in ((d_weights.extra, weights.extra), (d_state, state), (d_reset_state, reset_state))
    )
    # Under `shard_map` a gradient is summed over devices where its parameter begins to vary: not at every step.
    extra, d_extra = varying_alike((weights.extra, d_extra), (d_state, d_sums))

    # Recomputed in the backward pass: from residuals in cache, slopes are cheaper than read back from memory.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def linear_body(d_state, per_step):
        return _linear_step(rule, linear_weights, extra, d_extra, d_reset_state, d_state, y.dtype, per_step)

    per_step = residuals, inputs.reset, inputs.valid, d_sums, d_projected
    d_state, d_y = lax.scan(linear_body, d_state, per_step, reverse=loop.reverse, unroll=loop.unroll)
    return (y, end), (d_y, joined(d_state, zero_from_primal(end)))  # What is no float has a zero of its own.


def _features_first(a: jax.Array) -> jax.Array:
    """`[T, B, K]` to `[K, T, B]`: time and batch stay apart, for a mesh may hold one of them in pieces."""
    return a.transpose(2, 0, 1)


def _by_step(a: jax.Array) -> jax.Array:
    """`[M, T, B]` to `[T, M, B]`, or back."""
    return a.swapaxes(0, 1)


def _sums(loop: Loop, weights: Weights, h: jax.Array) -> Callable[[jax.Array, jax.Array], GateInputs]:
    """The sums as a function of x `[I, B]` and h `[P, B]`."""
    dtype = h.dtype
    bias, bias_h = (0 if bias is None else bias[:, None] for bias in (weights.bias, weights.bias_h))

    def apart(x, h):
        of_x, of_h = multiply(weights.weight_ih, x, dtype), multiply(weights.weight_hh, h, dtype)
        return loop.rule.merge(of_x + bias, of_h + bias_h)

    # One core and two of a Zen 5: joined takes 0.77 of the time at B = 1 and 0.9 at B = 8, but up to 1.5 from B = 16,
    # where XLA splits the larger product over threads that it must wake.
    few_rows = isinstance(h.shape[1], int) and h.shape[1] < 16  # An exported program may leave it open.
    if not (loop.rule.adds and few_rows):
        return apart
    joined_weight = jnp.concatenate([weights.weight_ih, weights.weight_hh], axis=1)
    return lambda x, h: GateInputs(multiply(joined_weight, jnp.concatenate([x, h]), dtype) + bias, None)


def _step(rule: Rule, sums: Callable, weights: Weights, reset_state: Any, state: Any, inputs: Inputs):
    """The state after one step, its output `[B, P]`, and what its derivative needs."""

    def move(start):
        after, y, residuals = rule.run(weights.extra, start, sums(inputs.x.T, start.h.astype(inputs.x.dtype)))
        if weights.weight_hr is not None:
            y = multiply(weights.weight_hr, y, state.h.dtype)
            after = after._replace(h=y)
        return after, y, residuals

    return _guarded(move, state, reset_state, inputs.reset, inputs.valid, inputs.x.dtype)


def _linear_step(rule: Rule, weights, extra, d_extra, d_reset_state, d_state, dtype, per_step):
    """The tangent of `_step` in the state; `d_sums` and `d_projected` hold the share of x and the weights."""
    weight_hh, weight_hr = weights
    residuals, reset, valid, d_sums, d_projected = per_step

    def move(start):
        of_h = product(weight_hh, start.h)
        sums = jax.tree.map(jnp.add, d_sums, rule.merge(jnp.zeros_like(of_h), of_h))
        after, y = rule.tangent(extra, residuals, d_extra, start, sums)
        if weight_hr is not None:
            y = product(weight_hr, y) + d_projected
            after = after._replace(h=y)
        return after, y, None

    d_state, d_y, _ = _guarded(move, d_state, d_reset_state, reset, valid, dtype)
    return d_state, d_y


def _guarded(move: Callable, state: Any, reset_state: Any, reset: jax.Array | None, valid: jax.Array | None, dtype):
    """`move` from `reset_state` where a row begins anew, and not at all where its step is padding; output 0 there."""
    start = state if reset is None else where_rows(reset, reset_state, state, axis=-1)
    after, y, residuals = move(start)
    if valid is None:
        return after, y.T.astype(dtype), residuals
    after = where_rows(valid, after, state, axis=-1)
    return after, jnp.where(valid[:, None], y.T, 0).astype(dtype), residuals
