"""A function that is computed another way on each platform, and chosen when the program for it is made.

What JAX lacks (0.10.2 and 0.12.0 were read): `jax.lax.platform_dependent` traces and lowers every branch for every
platform, which costs time and which a Pallas kernel refuses, and it keeps what each branch's derivative needs; and XLA,
partitioning a program over devices, gathers all operands of a kernel on every device. tests/test_jax_lacks.py and
tests/test_fold_devices.py fail once JAX has it.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax._src import config, dispatch
from jax.core import ShapedArray
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlstm._mesh import result_type, varying_alike

WHOLE, SUMMED, UNUSED = -1, -2, -3
"""In place of an axis number: an argument that is not divided into rows, a result that is a sum over all rows, which
devices therefore add up, and an array that a way neither reads nor makes."""


class Way(NamedTuple):
    """How one platform computes the function."""

    platform: str
    function: Callable
    rows: tuple[Any, Any] | None
    """Along which axis the rows of the batch lie, as tree prefixes of arguments and result, so that devices may share
    them out: some rows' results then need only these rows. None if not so.
    """
    exports: bool
    """Whether a program that `jax.export` writes may hold it."""


def by_platform(ways: Sequence[Way], otherwise: Callable, like: Any, *args: Any) -> Any:
    """A function of `args`, by that one of `ways` that is for the platform which the program is made for.

    No function is traced before the program is made, and what it raises is raised then. For `vmap`, but not
    differentiable.

    Args:
        ways: at most one for each platform.
        otherwise: called as `otherwise(reason, *args)` where none of them can serve.
        like: a pytree of the result's shapes and dtypes.
        *args: pytrees of arrays.
    """
    leaves, tree = jax.tree.flatten(varying_alike(args))
    like_leaves, like_tree = jax.tree.flatten(like)

    def flat(function):
        return lambda *leaves: jax.tree.leaves(function(*jax.tree.unflatten(tree, leaves)))

    def flat_rows(rows):
        return tuple(tuple(jax.tree.leaves(jax.tree.broadcast(*pair))) for pair in zip(rows, (args, like), strict=True))

    out = _primitive(tuple(way.platform for way in ways)).bind(
        *leaves,
        ways=tuple(
            way._replace(function=flat(way.function), rows=None if way.rows is None else flat_rows(way.rows))
            for way in ways
        ),
        otherwise=lambda reason: flat(functools.partial(otherwise, reason)),
        like=tuple((a.shape, a.dtype) for a in like_leaves),
    )
    return jax.tree.unflatten(like_tree, out)


def lower(function: Callable, ctx: mlir.LoweringRuleContext, *args: Any) -> Any:
    """The program of a function of arrays, written as for one device: it is not told how they lie on a mesh."""
    types: Any = ctx.avals_in, ctx.avals_out
    plain = [[ShapedArray(a.shape, a.dtype) for a in avals] for avals in types]
    with _one_device():
        return mlir.lower_fun(function, multiple_results=True)(
            ctx.replace(avals_in=plain[0], avals_out=plain[1]), *args
        )


def shapes_of(function: Callable, *args: Any) -> Any:
    """The shapes and dtypes of a function's results, written as for one device."""
    plain = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
    with _one_device():
        return jax.eval_shape(function, *plain)


@contextlib.contextmanager
def _one_device():
    """A context in which arrays lie on no mesh and vary over none, whatever the caller has set."""
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())), config._check_vma(False):
        yield


@functools.cache
def _primitive(platforms: tuple[str, ...]) -> Primitive:
    primitive = Primitive("by_platform")
    primitive.multiple_results = True

    def rule(platform, ctx, *args, ways, otherwise, like):
        way = next((way for way in ways if way.platform == platform), None)
        reason = _why_not(way, ctx)
        if way is None or reason is not None:
            return lower(otherwise(reason), ctx, *args)
        if _num_devices(ctx) > 1:
            return lower(_shared_out(way, like), ctx, *args)
        return lower(way.function, ctx, *args)

    primitive.def_abstract_eval(
        lambda *avals, like, **_: [result_type(shape, dtype, avals[0]) for shape, dtype in like]
    )
    primitive.def_impl(lambda *args, **params: jax.jit(functools.partial(primitive.bind, **params))(*args))
    mlir.register_lowering(primitive, functools.partial(rule, None))
    for platform in platforms:
        mlir.register_lowering(primitive, functools.partial(rule, platform), platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    # A rule is told the devices only of a primitive that is known to ask for them.
    dispatch.prim_requires_devices_during_lowering.add(primitive)
    return primitive


def _why_not(way: Way | None, ctx: mlir.LoweringRuleContext) -> str | None:
    """The reason why a way can't serve in the program that is being made."""
    if way is None:
        return "this program is made for another platform"
    if ctx.module_context.lowering_parameters.for_export and not way.exports:
        return "an exported program can't hold it"
    if _num_devices(ctx) > 1 and (way.rows is None or _devices(ctx) is None):
        return "XLA can't share it out over devices (call it in jax.shard_map, over all axes of the mesh)"
    return None


def _devices(ctx: mlir.LoweringRuleContext):
    """Those that XLA will partition the program over, in order, as far as they are known."""
    return getattr(ctx.module_context.axis_context, "device_assignment", None)


def _num_devices(ctx: mlir.LoweringRuleContext) -> int:
    """How many devices XLA will partition the program over: 1 inside a `shard_map` over all axes of its mesh."""
    context: Any = ctx.module_context.axis_context
    manual = getattr(context, "manual_axes", None)
    if manual is None:
        return context.num_devices
    return 1 if set(manual) == set(context.mesh.axis_names) else context.mesh.size


def _shared_out(way: Way, like: Sequence) -> Callable:
    """The way's function, told to XLA as one of which each device can compute its own rows."""
    assert way.rows is not None
    arg_rows, result_rows = way.rows

    def run(*args):
        used = [k for k, rows in enumerate(arg_rows) if rows != UNUSED]

        def of_used(*some):
            given = dict(zip(used, some, strict=True))
            return way.function(*(given[k] if k in given else jnp.zeros_like(a) for k, a in enumerate(args)))

        shared = custom_partitioning(of_used)
        rows = [arg_rows[k] for k in used]
        shapes = [args[k].shape for k in used], [shape for shape, _ in like]
        shared.def_partition(_partition(of_used, rows, result_rows), sharding_rule=_rule(shapes, (rows, result_rows)))
        return shared(*(args[k] for k in used))

    return run


def _rule(shapes: tuple, rows: tuple) -> str:
    """Shardy's rule: all axes of rows are one, and no other axis has anything to do with another."""
    names = (f"d{k}" for k in itertools.count())

    def axes_of(shape, rows: int) -> str:
        return " ".join("rows" if axis == rows else next(names) for axis in range(len(shape)))

    return " -> ".join(", ".join(map(axes_of, *side)) for side in zip(shapes, rows, strict=True))


def _partition(function: Callable, arg_rows: Sequence[int], result_rows: Sequence[int]) -> Callable:
    """What XLA calls to know where operands and results shall lie, and what each device does."""

    def partition(mesh: Mesh, args, results):
        del results
        axes = next((axes for a, rows in zip(args, arg_rows, strict=True) if (axes := _rows_over(a, rows))), None)

        def place(rows: int) -> NamedSharding:
            return NamedSharding(mesh, P() if rows < 0 else P(*[None] * rows, axes))

        def run(_, *args):
            out = function(*args)
            if axes is None:
                return out
            return [jax.lax.psum(a, axes) if rows == SUMMED else a for a, rows in zip(out, result_rows, strict=True)]

        def per_device(*args):
            # XLA calls this while it compiles, under whatever mesh is set by then; `by_platform` lowers it under none.
            return by_platform((), run, shapes_of(function, *args), *args)

        return mesh, per_device, [*map(place, result_rows)], tuple(map(place, arg_rows))

    return partition


def _rows_over(array, rows: int) -> tuple[str, ...] | None:
    """The mesh axes that an operand's rows lie over, if they divide them."""
    spec = array.sharding.spec
    if rows < 0 or rows >= len(spec) or spec[rows] is None:
        return None
    axes = spec[rows] if isinstance(spec[rows], tuple) else (spec[rows],)
    return axes if array.shape[rows] % math.prod(array.sharding.mesh.shape[axis] for axis in axes) == 0 else None


def _batch(primitive, args, axes, *, ways, otherwise, like):
    """The same for each element along a mapped axis, which comes first."""
    (size,) = {a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None}
    args = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)]
    in_axes = tuple(None if axis is None else 0 for axis in axes)

    def mapped(function):
        return jax.vmap(function, in_axes=in_axes)

    def moved(rows, mapped_axes):
        return tuple(axis if axis < 0 or of is None else axis + 1 for axis, of in zip(rows, mapped_axes, strict=True))

    def of_way(way: Way) -> Way:
        rows = None
        if way.rows is not None:
            rows = moved(way.rows[0], in_axes), moved(way.rows[1], [0] * len(like))
        return way._replace(function=mapped(way.function), rows=rows)

    out = primitive.bind(
        *args,
        ways=tuple(map(of_way, ways)),
        otherwise=lambda reason: mapped(otherwise(reason)),
        like=tuple(((size, *shape), dtype) for shape, dtype in like),
    )
    return out, [0] * len(out)
