"""For `jax.shard_map`, which checks over which mesh axes each array varies, and sums cotangents accordingly."""

from typing import Any

import jax
from jax import lax


def varying_axes(tree: Any) -> frozenset[str]:
    """The mesh axes that any array of the tree varies over; none outside `shard_map` or without its `check_vma`."""
    return frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(tree)))


def varying_alike(tree: Any, other: Any = None) -> Any:
    """The tree, each of whose arrays now varies over all axes that any of it, or of `other`, varies over."""
    axes = varying_axes((tree, other))

    def cast(leaf):
        missing = axes - jax.typeof(leaf).manual_axis_type.varying
        return lax.pcast(leaf, tuple(sorted(missing)), to="varying") if missing else leaf

    return jax.tree.map(cast, tree)
