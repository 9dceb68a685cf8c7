"""The recurrence as Pallas kernels for TPUs: W_hh stays on the chip while time goes by.

**In VMEM** for the whole run are W_hh (`4 H^2` elements) and, of a tile of batch rows, the state in float32: h and c
forward, their cotangents backward. Sizes are padded with zeros to the tiling, H to 128 lanes within each gate, and the
batch to 8 rows (float32) or 16 (bfloat16); a padded lane's state is 0 from first to last.

**Streaming** through VMEM, in bytes per step and row of the batch (s = 4 in float32, 2 in bfloat16; and 4 more each way
if there are lengths or resets):

    forward     in   16 H    W_ih x + b              out   s H    y         and residuals  16 H  sums,  4 H  c
    backward    in   20 H    residuals,   s H  d_y   out  4 s H   d_sums

**Outside**, as one product over all steps each, are W_ih x forward and the gradients of x and of all weights backward,
so the backward kernel is the linear recurrence alone. Inside, W_ih x would need room in VMEM for W_ih, and all of it
would pass through the matrix unit anew for the few rows of each step; the price is 16 H bytes, written and read.

Products multiply in the parameters' dtype, in the precision that `jax.default_matmul_precision` sets, and accumulate in
float32; all else is float32. A TPU multiplies bfloat16 in a kernel from its fourth generation on.

Appleyard et al. 2016 (arXiv:1604.01946) on what to move out of the recurrence; Diamos et al. 2016, "Persistent RNNs",
on holding W_hh on the chip; https://docs.jax.dev/en/latest/pallas/tpu/pipelining.html on the streams.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxlstm._lstm_cell import activate, advance
from jaxlstm._stack import h_before, valid_steps
from jaxlstm._types import LSTMCellParams, LSTMState
from jaxlstm.implementations._pallas_scan import LANES, scan
from jaxlstm.implementations._protocol import Masks, Operands

VMEM_BUDGET = int(15.5 * 2**20)
"""Bytes for the weight and a tile: 16 MiB is what every TPU has, or grants unasked, and the compiler takes a little."""

FULL_TILE = 128
"""Rows that the matrix unit takes about as long to multiply as to load a block of the weight."""


class Residuals(NamedTuple):
    """What the backward pass needs besides the outputs; its lanes, but not its rows, are padded to the tiling."""

    sums: jax.Array  # [T, B, 4H]
    c: jax.Array  # [T, B, H], before the step


def why_not(operands: Operands) -> str | None:
    """Why these kernels can't run a layer on these operands; None if they can."""
    params, x, state = operands
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves((params, x))}
    if dtypes not in ({"float32"}, {"bfloat16"}):
        return f"it computes in float32 or bfloat16, not {' with '.join(sorted(dtypes))}"
    if not all(isinstance(size, int) for size in x.shape):
        return f"it needs to know T and B, and x is [T, B, I] = [{', '.join(map(str, x.shape))}]"
    _, batch, _ = x.shape
    if batch == 0:
        return "it needs a row in the batch (B = 0)"
    hidden = state.c.shape[1]
    rows = min(FULL_TILE, _up(batch, _tile_rows(x.dtype)))
    if _rows_that_fit(hidden, x.dtype) < rows:
        needed = _weight_bytes(hidden, x.dtype) + rows * _row_bytes(hidden, x.dtype)
        return (
            f"weight_hh [4H, H] for H = {hidden} in {x.dtype} and a tile of {rows} rows need {needed / 2**20:.1f} MiB "
            f"of the chip's memory, and it may use {VMEM_BUDGET / 2**20:.1f}"
        )
    return None


def forward(
    operands: Operands, masks: Masks, *, reverse: bool, keep: bool, interpret: bool = False
) -> tuple[tuple[jax.Array, LSTMState], Residuals | None]:
    """One direction of one layer, as `jaxlstm._stack.Layer` describes it, and what `backward` needs if `keep`."""
    params, x, state = operands
    num_steps, batch, num_inputs = x.shape
    size = _padded(batch, state.c.shape[1], x.dtype)
    x_sums = _multiply("tbi,gi->tbg", _pad(x, num_steps, size.batch, num_inputs), _by_gate(params.weight_ih, size))
    if params.bias_ih is not None and params.bias_hh is not None:
        bias = params.bias_ih.astype(jnp.float32) + params.bias_hh.astype(jnp.float32)
        x_sums += jnp.expand_dims(_by_gate(bias, size), (0, 1))
    end, (y, residuals) = scan(
        "lstm_forward",
        functools.partial(_step, x.dtype, keep),
        _recurrent_weight(params, size).T,
        _pad_state(state, size),
        x_sums,
        _marks(masks, num_steps, size),
        rows=size.rows,
        reverse=reverse,
        interpret=interpret,
    )
    y, end = jax.tree.map(lambda a: a[..., :batch, : size.hidden], (y, end))
    return (y, end), jax.tree.map(lambda a: a[:, :batch], residuals)


def backward(
    operands: Operands,
    masks: Masks,
    outputs: tuple[jax.Array, LSTMState],
    residuals: Residuals,
    cotangents: tuple[jax.Array, LSTMState],
    *,
    reverse: bool,
    interpret: bool = False,
) -> Operands:
    """The gradients of the operands, from `forward`'s outputs, its residuals, and the outputs' cotangents."""
    params, x, state = operands
    num_steps, batch, _ = x.shape
    size = _padded(batch, state.c.shape[1], x.dtype)
    d_y, d_end = cotangents
    d_state, d_sums = scan(
        "lstm_backward",
        functools.partial(_step_transposed, x.dtype),
        _recurrent_weight(params, size),
        _pad_state(d_end, size),
        (_pad(d_y, num_steps, size.batch, size.lanes), jax.tree.map(lambda a: _pad_rows(a, size), residuals)),
        _marks(masks, num_steps, size),
        rows=size.rows,
        reverse=not reverse,
        interpret=interpret,
    )
    d_state = jax.tree.map(lambda a: a[:batch, : size.hidden], d_state)
    d_sums = d_sums.reshape(num_steps, size.batch, 4, size.lanes)[:, :batch, :, : size.hidden]
    d_sums = d_sums.reshape(num_steps, batch, 4 * size.hidden)

    valid = None if masks.lengths is None else valid_steps(masks.lengths, num_steps)
    h = h_before(outputs[0], state.h, None, resets=masks.resets, valid=valid, reverse=reverse)
    d_bias = None if params.bias_ih is None else d_sums.sum((0, 1), dtype=jnp.float32)
    d_params = LSTMCellParams(
        weight_ih=_multiply("tbg,tbi->gi", d_sums, x),
        weight_hh=_multiply("tbg,tbh->gh", d_sums, h),
        bias_ih=d_bias,
        bias_hh=d_bias,
        weight_hr=None,
    )
    d_x = _multiply("tbg,gi->tbi", d_sums, params.weight_ih)
    d_params, d_x = jax.tree.map(lambda a: a.astype(x.dtype), (d_params, d_x))
    return Operands(d_params, d_x, d_state)


_multiply = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _multiply_inside(x: jax.Array, weight: jax.Array) -> jax.Array:
    """In a kernel: exact for bfloat16 in one pass, which is all it may ask for, and float32 by one pass or by all."""
    setting = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]: made at run time
    one_pass = x.dtype == jnp.bfloat16 or setting in (None, "default", "fastest", "bfloat16")
    precision = lax.Precision.DEFAULT if one_pass else lax.Precision.HIGHEST
    return jnp.dot(x, weight, precision=precision, preferred_element_type=jnp.float32)


def _cell(sums: jax.Array, c: jax.Array) -> LSTMState:
    i, f, g, o = jnp.split(sums, 4, axis=1)
    return LSTMState(*advance(activate((i, f, g, o)), c))


def _step(dtype, keep: bool, weight: jax.Array, state: LSTMState, x_sums: jax.Array, mark: jax.Array | None):
    """The state after one step of a tile; its output, and what its transpose needs if `keep`. The weight is W_hh^T."""
    start = _zero_where(mark, BEGIN, state)
    sums = x_sums + _multiply_inside(start.h.astype(dtype), weight)
    after = _cell(sums, start.c)
    y = _zero_where(mark, PADDING, after.h).astype(dtype)
    return _where(mark, PADDING, state, after), (y, Residuals(sums, start.c) if keep else None)


def _step_transposed(dtype, weight: jax.Array, d_after: LSTMState, inputs, mark: jax.Array | None):
    """`_step` transposed: the cotangents of the state before the step and of its sums. The weight is W_hh."""
    d_y, residuals = inputs
    _, pullback = jax.vjp(_cell, residuals.sums, residuals.c)
    d_sums, d_c = pullback(LSTMState(d_after.h + d_y.astype(jnp.float32), d_after.c))
    d_sums = _zero_where(mark, PADDING, d_sums).astype(dtype)
    d_start = _zero_where(mark, BEGIN, LSTMState(_multiply_inside(d_sums, weight), d_c))
    return _where(mark, PADDING, d_after, d_start), d_sums


PADDING, STEP, BEGIN = 0, 1, 2
"""What a row does at a step: nothing, take it, or take it from a state of zero."""


def _where(mark: jax.Array | None, sign: int, there: Any, elsewhere: Any) -> Any:
    """`there` in the rows of that mark, and `elsewhere`, of the same structure, in the others."""
    if mark is None:
        return elsewhere
    return jax.tree.map(functools.partial(jnp.where, mark == sign), there, elsewhere)


def _zero_where(mark: jax.Array | None, sign: int, elsewhere: Any) -> Any:
    return _where(mark, sign, jax.tree.map(jnp.zeros_like, elsewhere), elsewhere)


class Sizes(NamedTuple):
    """A layer's sizes, and those on the tiling."""

    rows: int
    """Of a tile."""
    batch: int
    """All tiles' rows."""
    hidden: int
    """As the caller has it."""
    lanes: int
    """Padded."""


def _padded(batch: int, hidden: int, dtype) -> Sizes:
    """The fewest tiles that fit, and the fewest rows in each."""
    tiles = pl.cdiv(batch, _rows_that_fit(hidden, dtype))
    rows = _up(pl.cdiv(batch, tiles), _tile_rows(dtype))
    return Sizes(rows, tiles * rows, hidden, _up(hidden, LANES))


def _rows_that_fit(hidden: int, dtype) -> int:
    """How many rows of the batch have room in VMEM beside the weight."""
    room = max(0, VMEM_BUDGET - _weight_bytes(hidden, dtype))
    return room // _row_bytes(hidden, dtype) // _tile_rows(dtype) * _tile_rows(dtype)


def _weight_bytes(hidden: int, dtype) -> int:
    return 4 * _up(hidden, LANES) ** 2 * dtype.itemsize


def _row_bytes(hidden: int, dtype) -> int:
    """Of VMEM for each row of a tile: its blocks twice, one moving while the other is in use, and a step's values."""
    lanes = _up(hidden, LANES)
    streams = (16 + dtype.itemsize + 16 + 4) * lanes + 4 * LANES  # forward; backward takes no more
    states = 4 * 4 * lanes  # h and c, in and out
    values = 40 * lanes  # the compiler spilled up to 36 (libtpu 0.0.50, backward, for TPU v4)
    return 2 * (streams + states) + values


def _tile_rows(dtype) -> int:
    return 32 // dtype.itemsize


def _up(size: int, multiple: int) -> int:
    return pl.cdiv(size, multiple) * multiple


def _marks(masks: Masks, num_steps: int, size: Sizes) -> jax.Array | None:
    """`int32[B, T]`: with time along the lanes a step takes 4 bytes, where a column of rows would take 512."""
    if masks.lengths is None and masks.resets is None:
        return None
    marks = jnp.full((num_steps, 1), STEP, jnp.int32)
    if masks.lengths is not None:
        marks = jnp.where(valid_steps(masks.lengths, num_steps), marks, PADDING)
    if masks.resets is not None:
        marks = jnp.where(masks.resets, BEGIN, marks)
    return _pad(marks.T, size.batch, _up(num_steps, LANES))


def _pad(a: jax.Array, *shape: int) -> jax.Array:
    """Zeros after `a` along each axis, up to that shape."""
    return jnp.pad(a, [(0, size - given) for given, size in zip(a.shape, shape, strict=True)])


def _pad_state(state: LSTMState, size: Sizes) -> LSTMState:
    return LSTMState(*(_pad(s, size.batch, size.lanes) for s in state))


def _pad_rows(a: jax.Array, size: Sizes) -> jax.Array:
    return _pad(a, a.shape[0], size.batch, a.shape[2])


def _by_gate(a: jax.Array, size: Sizes) -> jax.Array:
    """`[4H, ...]` with each of the four gates padded."""
    rest = a.shape[1:]
    return _pad(a.reshape(4, size.hidden, *rest), 4, size.lanes, *rest).reshape(4 * size.lanes, *rest)


def _recurrent_weight(params: LSTMCellParams, size: Sizes) -> jax.Array:
    return _by_gate(_pad(params.weight_hh, 4 * size.hidden, size.lanes), size)
