"""A mapped axis of V elements, in front of arrays `[M, ...]` of M models: made a part of M, or of the rows B."""

from typing import Any

import jax
import jax.numpy as jnp


def mapped_first(size: int, mapped: Any, operands: Any) -> Any:
    """Every array with the mapped axis in front, repeated where it is not mapped over."""
    return jax.tree.map(
        lambda a, is_mapped: a if is_mapped else jnp.broadcast_to(a, (size, *a.shape)), operands, mapped
    )


def merge(tree: Any) -> Any:
    """`[V, M, ...]` to `[V M, ...]`."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), tree)


def unmerge(size: int, tree: Any) -> Any:
    """`[V M, ...]` to `[V, M, ...]`."""
    return jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), tree)


def _row_axis(a: jax.Array) -> int:
    """Of a batch of rows of numbers, or of a mask's rows, which are one number each."""
    return a.ndim - (2 if jnp.issubdtype(a.dtype, jnp.floating) else 1)


def merge_rows(tree: Any) -> Any:
    """`[V, ..., B, K]` to `[..., V B, K]`."""

    def merged(a):
        axis = _row_axis(a) - 1
        a = jnp.moveaxis(a, 0, axis)
        return a.reshape(*a.shape[:axis], -1, *a.shape[axis + 2 :])

    return jax.tree.map(merged, tree)


def unmerge_rows(size: int, tree: Any) -> Any:
    """`[..., V B, K]` to `[V, ..., B, K]`."""

    def unmerged(a):
        axis = _row_axis(a)
        return jnp.moveaxis(a.reshape(*a.shape[:axis], size, -1, *a.shape[axis + 1 :]), axis, 0)

    return jax.tree.map(unmerged, tree)
