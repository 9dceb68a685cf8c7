"""A call of a fold: its arguments once they are checked, and the run that they ask for."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import jaxpr_as_fun
from jax.sharding import PartitionSpec as P

from jaxlstm import _check, _check_cell
from jaxlstm._floats import is_float
from jaxlstm._mesh import on_auto_axes, spec_of, varying_alike
from jaxlstm._stack import stack
from jaxlstm._types import Cell, LSTMParams


class Arrays(NamedTuple):
    """A call's arguments that are arrays, as `jaxlstm.fold` describes them."""

    params: LSTMParams
    x: jax.Array
    state: Any
    reset_state: Any
    lengths: jax.Array | None
    resets: jax.Array | None
    dropout_key: jax.Array | None


class Settings(NamedTuple):
    """A call's other arguments, but the implementation."""

    cell: Cell
    batch_first: bool
    dropout: float
    checkpoint_every: int | None
    unroll: int | None


def checked(
    cell: Any,
    params: Any,
    x: Any,
    state: Any = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    reset_state: Any = None,
    batch_first: Any = False,
    dropout: Any = 0.0,
    dropout_key: Any = None,
    checkpoint_every: Any = None,
    unroll: Any = None,
) -> tuple[Arrays, Settings]:
    """What `jaxlstm.fold` is called with, refused where it can't be run."""
    _check_cell.check_cell(cell)
    sizes = _check_cell.check_params(params, cell)
    batch_first = _check.check_flag("batch_first", batch_first)
    axes = "B, T, I" if batch_first else "T, B, I"
    x = _check.check_x(x, axes, "T, I", sizes.input_size)
    batched = x.ndim == 3
    time_axis = 1 if batched and batch_first else 0
    num_steps = x.shape[time_axis]
    if num_steps == 0:
        raise ValueError(f"x: expected T of at least 1, got T = 0 in {list(x.shape)}. Leave out empty sequences.")
    batch = (x.shape[1 - time_axis],) if batched else ()

    lead, letters = (sizes.num_layers * sizes.num_directions, *batch), "L*D, B, " if batched else "L*D, "
    if state is not None:
        state = _check_cell.check_state(state, letters, lead, sizes, cell)
    if reset_state is not None:
        reset_state = _check_cell.check_reset_state(reset_state, letters, lead, sizes, cell)
    if lengths is not None:
        lengths = _check.check_lengths(lengths, batch, num_steps)
    if resets is not None:
        resets = _check.check_resets(resets, axes.removesuffix(", I") if batched else "T", x.shape[:-1])
    if dropout_key is not None:
        _check.check_key("dropout_key", dropout_key)
    checkpoint_every, unroll = _check.check_loop(checkpoint_every, unroll, num_steps)
    settings = Settings(cell, batch_first, _check.check_dropout(dropout), checkpoint_every, unroll)
    return Arrays(tuple(map(tuple, params)), x, state, reset_state, lengths, resets, dropout_key), settings


def to(dtype: Any, tree: Any) -> Any:
    """The tree, its floating arrays in that dtype."""
    return jax.tree.map(lambda a: a.astype(dtype) if is_float(a) else a, tree)


def common_dtype(tree: Any) -> jnp.dtype:
    """That of a result computed from all floating arrays of the tree: by contract, under any setting of JAX."""
    return functools.reduce(_promote, (leaf.dtype for leaf in jax.tree.leaves(tree) if is_float(leaf)))


def accumulator(dtype: Any) -> jnp.dtype:
    """The dtype of states and gates inside a run: no less than float32."""
    return _promote(dtype, jnp.float32)


def _promote(dtype: Any, other: Any) -> jnp.dtype:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(dtype, other)


def run(layer: Callable, arrays: Arrays, settings: Settings) -> tuple[jax.Array, Any]:
    """Bring every layout and dtype to the one that `stack` knows, run it, and back.

    The layer is a `jaxlstm._stack.Layer` that also takes `checkpoint_every` and `unroll`.
    """
    if arrays.state is None:
        arrays = arrays._replace(state=_start(arrays, settings))
    return on_auto_axes(functools.partial(_run, layer, settings), _result_specs(arrays, settings), arrays)


def _run(layer: Callable, settings: Settings, arrays: Arrays) -> tuple[jax.Array, Any]:
    dtype = common_dtype((arrays.params, arrays.x))
    inside = accumulator(dtype)
    batched = arrays.x.ndim == 3
    arrays = _time_major(arrays, settings)
    x, lengths, resets = arrays.x.astype(dtype), _in_range(arrays.lengths, arrays.x.shape[0]), arrays.resets
    state, reset_state = to(inside, (arrays.state, arrays.reset_state))
    state, reset_state = varying_alike((state, reset_state), arrays._replace(state=None, reset_state=None))
    params = tuple(
        tuple(to(dtype, cell)._replace(extra=to(inside, cell.extra)) for cell in cells) for cells in arrays.params
    )
    cell, params = _closed(settings.cell, params, state)
    y, final = stack(
        functools.partial(layer, checkpoint_every=settings.checkpoint_every, unroll=settings.unroll),
        cell,
        params,
        x,
        state,
        reset_state,
        lengths=lengths,
        resets=resets,
        dropout=settings.dropout,
        dropout_key=arrays.dropout_key,
    )
    final = to(dtype, final)
    if not batched:
        return jnp.squeeze(y, 1), jax.tree.map(lambda a: jnp.squeeze(a, 1), final)
    return (jnp.swapaxes(y, 0, 1) if settings.batch_first else y), final


def _closed(cell: Cell, params: LSTMParams, state: Any) -> tuple[Cell, LSTMParams]:
    """Before the rule is part of anything, try it on one row; what it closes over that JAX traces becomes `extra`.

    For a derivative of one's own (`jax.custom_jvp`) may not close over such.
    """
    first = params[0][0]
    extra, row = (
        jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[lead:], a.dtype), tree)  # noqa: B023
        for lead, tree in ((0, first.extra), (2, state))
    )
    hidden_size = first.weight_hh.shape[0] // cell.num_gates
    traced, structure = _check_cell.check_rule(cell, extra, row, hidden_size, projected=first.weight_hr is not None)
    if not any(isinstance(value, Tracer) for value in traced.consts):
        return cell, params

    @functools.wraps(cell.rule)
    def rule(extra, *row):
        own, closed_over = extra
        leaves = jaxpr_as_fun(traced.replace(consts=closed_over))(*jax.tree.leaves((own, *row)))
        return jax.tree.unflatten(structure, leaves)

    with_all = (tuple(c._replace(extra=(c.extra, traced.consts)) for c in cells) for cells in params)
    return cell._replace(rule=rule), tuple(with_all)


def _time_major(arrays: Arrays, settings: Settings) -> Arrays:
    """With x `[T, B, I]`, resets `[T, B]`, lengths `[B]`, states with B, whatever axes the call had."""

    def expand(tree, axis):
        return jax.tree.map(lambda a: jnp.expand_dims(a, axis), tree)

    if arrays.x.ndim == 2:
        arrays = arrays._replace(
            x=expand(arrays.x, 1),
            state=expand(arrays.state, 1),
            lengths=expand(arrays.lengths, 0),
            resets=expand(arrays.resets, 1),
        )
    elif settings.batch_first:
        x, resets = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (arrays.x, arrays.resets))
        arrays = arrays._replace(x=x, resets=resets)
    if arrays.reset_state is not None and arrays.reset_state.h.ndim == 2:  # One for all rows.
        rows = arrays.x.shape[1]
        shared = jax.tree.map(
            lambda a: jnp.broadcast_to(a[:, None], (a.shape[0], rows, *a.shape[1:])), arrays.reset_state
        )
        arrays = arrays._replace(reset_state=shared)
    return arrays


def _start(arrays: Arrays, settings: Settings) -> Any:
    """The state of a sequence that begins, h `[L*D, B, P]`, without B unbatched."""
    sizes = _check_cell.check_params(arrays.params, settings.cell)
    batch = arrays.x.shape[:-2] if arrays.x.ndim == 2 or settings.batch_first else arrays.x.shape[1:-1]
    lead = (sizes.num_layers * sizes.num_directions, *batch)
    return _check_cell.default_state(settings.cell, lead, sizes, accumulator(arrays.x.dtype))


def _in_range(lengths: jax.Array | None, num_steps: Any) -> jax.Array | None:
    """`int32[B]`, within [0, T] where their values were not known at the door."""
    if lengths is None:
        return None
    wide = lengths if lengths.dtype.itemsize >= 4 else lengths.astype(jnp.int32)
    return jnp.clip(wide, 0, jnp.asarray(num_steps, wide.dtype)).astype(jnp.int32)


def _result_specs(arrays: Arrays, settings: Settings) -> tuple[P, Any]:
    """Where output and final state lie on a mesh of `Explicit` axes: the rows of the batch where an argument's do."""
    if arrays.x.ndim == 2:
        time, _ = spec_of(arrays.x)
        return P(time), jax.tree.map(lambda _: P(), arrays.state)
    time, rows, _ = _swapped(spec_of(arrays.x), settings)
    if rows is None and arrays.resets is not None:
        rows = _swapped(spec_of(arrays.resets), settings)[1]
    if rows is None and arrays.lengths is not None:
        (rows,) = spec_of(arrays.lengths)
    if rows is None and arrays.state is not None:
        rows = spec_of(arrays.state.h)[1]
    return P(*_swapped((time, rows), settings)), jax.tree.map(lambda _: P(None, rows), arrays.state)


def _swapped(spec: tuple, settings: Settings) -> tuple:
    first, second, *rest = spec
    return (second, first, *rest) if settings.batch_first else spec
