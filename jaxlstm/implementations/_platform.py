"""A function that is lowered for one platform only.

`jax.lax.platform_dependent` chooses a branch when the program runs, but when a program for several platforms is made
it lowers each branch for all of them, which a Pallas kernel refuses.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


def only_on(platform: str, function: Callable, elsewhere: Callable, like: Any, *args: Any) -> Any:
    """`function(*args)` in a program for `platform`, and `elsewhere(like)` in one for another.

    `like` is a pytree of the result's shapes and dtypes; neither function is traced before the program is lowered, and
    what it raises is raised then. For `vmap`, but not differentiable.
    """
    leaves, tree = jax.tree.flatten(args)
    like, like_tree = jax.tree.flatten(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like))
    out = _primitive(platform).bind(
        *leaves,
        function=functools.partial(_flat, function, tree),
        elsewhere=elsewhere,
        like=tuple(like),
    )
    return jax.tree.unflatten(like_tree, out)


def zeros_like(like: Any) -> Any:
    """Zeros of those shapes and dtypes: what never runs may be anything."""
    return [jnp.zeros(a.shape, a.dtype) for a in like]


def _flat(function, tree, *leaves):
    return jax.tree.leaves(function(*jax.tree.unflatten(tree, leaves)))


@functools.cache
def _primitive(platform: str) -> Primitive:
    primitive = Primitive(f"on_{platform}")
    primitive.multiple_results = True

    def run(*args, function, **_):
        return function(*args)

    def otherwise(*_, elsewhere, like, **__):
        return elsewhere(like)

    def batch(args, axes, *, function, elsewhere, like):
        (size,) = {a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None}
        mapped = jax.vmap(function, in_axes=tuple(axes))
        like = tuple(jax.ShapeDtypeStruct((size, *a.shape), a.dtype) for a in like)
        return primitive.bind(*args, function=mapped, elsewhere=elsewhere, like=like), [0] * len(like)

    primitive.def_abstract_eval(lambda *_, like, **__: [ShapedArray(a.shape, a.dtype) for a in like])
    primitive.def_impl(lambda *args, **params: jax.jit(functools.partial(primitive.bind, **params))(*args))
    mlir.register_lowering(primitive, mlir.lower_fun(otherwise, multiple_results=True))
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=True), platform=platform)
    batching.primitive_batchers[primitive] = batch
    return primitive
