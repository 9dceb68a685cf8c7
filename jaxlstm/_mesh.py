"""How arrays lie on a mesh of devices, read from their JAX types (`jax.typeof`), and results that lie alike.

Where the caller uses
- `jax.shard_map` with `check_vma`, an array's type says over which mesh axes its values vary (differ by device);
- a mesh of `Explicit` axes, as `jax.make_mesh` makes, it says over which mesh axes each array axis is split, and JAX
  must be able to infer that for every result: `on_auto_axes` states it for us;
- a mesh of `Auto` axes, it says nothing: XLA chooses.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.core import ShapedArray
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P


def varying_axes(tree: Any) -> frozenset[str]:
    """The mesh axes that any array of the tree varies over; empty outside `shard_map` or without its `check_vma`."""
    return frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(tree)))


def varying_alike(tree: Any, other: Any = None) -> Any:
    """The tree, cast so that each of its arrays varies over every axis that any array in it or in `other` varies over.

    A loop needs this: its carry must have one type at all steps.
    """
    axes = varying_axes((tree, other))

    def cast(leaf):
        missing = axes - jax.typeof(leaf).manual_axis_type.varying
        return lax.pcast(leaf, tuple(sorted(missing)), to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def result_type(shape: tuple[int, ...], dtype: Any, operand: ShapedArray) -> ShapedArray:
    """The type of a result computed from operands that all vary alike, as this one, and lie on `Auto` axes only."""
    nowhere = operand.sharding.update(spec=P(*[None] * len(shape)))
    return operand.update(shape=shape, dtype=dtype, weak_type=False, sharding=nowhere)


def explicit_mesh(tree: Any) -> AbstractMesh | None:
    """The mesh with `Explicit` axes that arrays of the tree lie on, if any does."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def spec_of(array: Any) -> tuple:
    """The mesh axes that each axis of an array is split over, from its type; None for an axis that is not."""
    return tuple(jax.typeof(array).sharding.spec)


def on_auto_axes(function: Callable, specs: Any, *args: Any) -> Any:
    """`function(*args)`, with the `Explicit` axes of the arguments' mesh turned into `Auto` ones inside.

    So the function needs no sharding of its own: XLA partitions it. JAX can differentiate it.

    Args:
        function: of any pytrees.
        specs: where its results shall lie on that mesh: a tree of `PartitionSpec` like them.
        *args: its arguments.
    """
    mesh = explicit_mesh(args)
    if mesh is None:
        return function(*args)
    places = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=places)(*args)
