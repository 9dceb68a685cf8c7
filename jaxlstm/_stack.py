"""Layers x directions around any one-layer function; it knows no implementation, and of a cell only its name.

Everything here is time-major and batched: x `[T, B, I]`, state h `[L*D, B, P]`, other fields `[L*D, B, ...]`.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxlstm._names import suffix
from jaxlstm._types import Cell, CellParams, LSTMParams


class Layer(Protocol):
    """One direction of one layer, as an implementation provides it."""

    def __call__(
        self,
        cell: Cell,
        params: CellParams,
        x: jax.Array,
        state: Any,
        reset_state: Any,
        *,
        lengths: jax.Array | None,
        resets: jax.Array | None,
        reverse: bool,
    ) -> tuple[jax.Array, Any]:
        """Run the cell over time.

        Args:
            cell: its rule and what goes with it.
            params: of one cell.
            x: `[T, B, I]`, zero at padding.
            state: the initial one, of type `cell.state`, h `[B, P]`, others `[B, ...]`, floats in the dtype to
                accumulate in.
            reset_state: like `state`, what a reset puts in its place; zero if None.
            lengths: `int[B]`, or None if every step counts. Past a row's length its state stays as it is and its
                output is 0.
            resets: `bool[T, B]`, or None: reset the row's state before taking step t, in either direction. False at
                padding.
            reverse: from step T-1 down to 0.

        Returns:
            Output `[T, B, P]` in step order 0..T-1, in x's dtype, and the state after the last step taken, in its own.
        """
        ...


def valid_steps(lengths: jax.Array, num_steps: int) -> jax.Array:
    """`bool[T, B]`, True where a row is not yet padding."""
    return jnp.arange(num_steps, dtype=lengths.dtype)[:, None] < lengths[None, :]


def h_before(
    y: jax.Array,
    h: jax.Array,
    reset_h: jax.Array | None,
    *,
    resets: jax.Array | None,
    valid: jax.Array | None,
    reverse: bool,
) -> jax.Array:
    """The h that each step of a layer was given, `[T, B, P]`: of the step before it, or of a state it began from.

    Args:
        y: the layer's output, `[T, B, P]`.
        h: of the initial state, `[B, P]`.
        reset_h: of the reset state, `[B, P]`; zero if None.
        resets: `bool[T, B]`, or None.
        valid: `bool[T, B]`, or None.
        reverse: whether the layer ran from step T-1 down to 0.
    """
    h = h.astype(y.dtype)
    if reverse and valid is not None:  # Going backwards, padding comes first, and its output is not the state.
        y = jnp.where(valid[:, :, None], y, h)
    h = jnp.concatenate([y[1:], h[None]] if reverse else [h[None], y[:-1]])
    if resets is None:
        return h
    return jnp.where(resets[:, :, None], 0 if reset_h is None else reset_h.astype(y.dtype), h)


def where_rows(mask: jax.Array, new: Any, old: Any, *, axis: int = 0) -> Any:
    """`jnp.where(mask, new, old)` for states: the mask `bool[B]` picks rows, which lie along `axis` of each array.

    Where `new` is None it is zero; a `jax.random` key, which has no zero, then stays the old one.
    """

    def choose(new, old):
        if new is None and jnp.issubdtype(old.dtype, jax.dtypes.extended):
            return old
        other_axes = [k for k in range(old.ndim) if k != axis % old.ndim]
        return jnp.where(jnp.expand_dims(mask, other_axes), jnp.zeros((), old.dtype) if new is None else new, old)

    if new is None:
        return jax.tree.map(functools.partial(choose, None), old)
    return jax.tree.map(choose, new, old)


def drop(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """`x` `[T, B, D*P]` with a share `rate` of its elements zeroed and the others scaled by `1/(1-rate)`."""
    if rate == 1.0:
        return jnp.zeros_like(x)
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def _as_run(resets: jax.Array, reverse: bool) -> tuple[jax.Array, jax.Array | None]:
    """Resets for one direction: before which steps `[T, B]` to reset the state, and in which rows `[B]` the final one.

    A reset at t separates step t-1 from step t. Forward, that is before step t. In reverse it is before step t-1, and
    a reset at 0 comes after the last step taken.
    """
    if not reverse:
        return resets, None
    return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])]), resets[0]


def stack(
    layer: Layer,
    cell: Cell,
    params: LSTMParams,
    x: jax.Array,
    state: Any,
    reset_state: Any = None,
    *,
    lengths: jax.Array | None = None,
    resets: jax.Array | None = None,
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """Fold x `[T, B, I]` through all layers and directions; see `jaxlstm.fold`. Returns `[T, B, D*P]` and the state."""
    empty = None
    if lengths is not None:
        valid = valid_steps(lengths, x.shape[0])
        # Before the recurrence, not in it: a NaN that is masked only inside would still reach the gradients as 0 * NaN.
        x = jnp.where(valid[:, :, None], x, 0)
        resets = None if resets is None else resets & valid
        empty = lengths <= 0

    final_states = []
    for number, directions in enumerate(params):
        if number > 0 and dropout > 0 and dropout_key is not None:
            dropout_key, layer_key = jax.random.split(dropout_key)
            x = drop(x, dropout, layer_key)
        outputs = []
        for reverse, cell_params in enumerate(directions):
            k = len(final_states)
            initial, after_reset = jax.tree.map(lambda a: a[k], (state, reset_state))  # noqa: B023
            with jax.named_scope(cell.name + suffix(number, reverse)):
                run = functools.partial(layer, cell, cell_params)
                y, final = _direction(run, x, initial, after_reset, lengths, resets, empty, reverse=bool(reverse))
            outputs.append(y)
            final_states.append(final)
        x = jnp.concatenate(outputs, axis=-1)
    return x, jax.tree.map(lambda *states: jnp.stack(states), *final_states)


def _direction(
    run: Callable,
    x: jax.Array,
    state: Any,
    reset_state: Any,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    empty: jax.Array | None,
    *,
    reverse: bool,
) -> tuple[jax.Array, Any]:
    """One direction of one layer; `empty` `bool[B]` are the rows of length 0."""
    resets, cleared = (None, None) if resets is None else _as_run(resets, reverse)
    # An empty row's state goes around the layer: inside, a NaN in it would reach the gradients of shared weights.
    start = state if empty is None else where_rows(empty, None, state)
    y, final = run(x, start, reset_state, lengths=lengths, resets=resets, reverse=reverse)
    if empty is not None:
        final = where_rows(empty, state, final)
    if cleared is not None:
        final = where_rows(cleared, reset_state, final)
    return y, final
