"""What an array's type says of a mesh of devices, and what follows for a computation of ours.

Under `jax.shard_map`, with its `check_vma`, a type says over which mesh axes the array varies. On a mesh of `Explicit`
axes, which is what `jax.make_mesh` makes, a type says over which of them each array axis lies, and each operation must
be able to tell the same of its result. On `Auto` axes XLA finds a place for everything, and types say nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.core import ShapedArray
from jax.sharding import AbstractMesh, NamedSharding
from jax.sharding import PartitionSpec as P


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


def result_type(shape: tuple[int, ...], dtype: Any, operand: ShapedArray) -> ShapedArray:
    """The type of a result computed from operands that all vary alike, as this one, and lie on `Auto` axes only."""
    nowhere = operand.sharding.update(spec=P(*[None] * len(shape)))
    return operand.update(shape=shape, dtype=dtype, weak_type=False, sharding=nowhere)


def explicit_mesh(tree: Any) -> AbstractMesh | None:
    """The mesh with `Explicit` axes that arrays of the tree lie on, if any does."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def spec_of(array: Any) -> tuple:
    """Over which mesh axes each axis of an array lies, as its type says it; None for those that it doesn't."""
    return tuple(jax.typeof(array).sharding.spec)


def on_auto_axes(function: Callable, specs: Any, *args: Any) -> Any:
    """`function(*args)` with every `Explicit` axis of the arguments' mesh handled as an `Auto` one meanwhile.

    XLA then partitions what is inside, which can so be written without a thought of meshes, and JAX differentiates it.

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
