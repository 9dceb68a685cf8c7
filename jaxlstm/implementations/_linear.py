"""A function that is linear in some of its arguments, and is told its own transpose.

JAX can transpose whatever is made of its own operations, but the transpose that it finds may be slow (see `_product`),
and a kernel it can't transpose at all. `jax.custom_derivatives.linear_call` is meant for this and has no `vmap`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxlstm._mesh import result_type, varying_alike
from jaxlstm.implementations._platform import lower

_linear_p = Primitive("linear")
_linear_p.multiple_results = True


class Linear(NamedTuple):
    """Two ways to compute a function of `(held, x)` that is linear in x."""

    run: Callable
    """What computes it."""
    by_jax: Callable
    """The same in operations that JAX differentiates: what its derivative in `held` comes from."""


def linear(function: Linear, transpose: Linear, held: Any, x: Any, like: Any) -> Any:
    """`function(held, x)`, linear in x, whose transpose is `transpose(held, cotangent)`.

    Args:
        function: from `(held, x)` to a pytree as `like`.
        transpose: from `(held, cotangent)` to a pytree as x.
        held: a pytree of arrays that both may use; differentiated through `by_jax`.
        x: a pytree of arrays.
        like: a pytree of arrays of the result's shapes and dtypes.
    """
    # A result varies over all axes that an operand varies over, and so must they all: `shard_map` sums over the others.
    held, x = varying_alike((held, x))
    held_leaves, held_tree = jax.tree.flatten(held)
    x_leaves, x_tree = jax.tree.flatten(x)
    like_leaves, like_tree = jax.tree.flatten(like)
    out = _linear_p.bind(
        *held_leaves,
        *x_leaves,
        function=Linear(*(functools.partial(_flat, f, held_tree, x_tree) for f in function)),
        transpose=Linear(*(functools.partial(_flat, f, held_tree, like_tree) for f in transpose)),
        num_held=len(held_leaves),
        like=tuple((a.shape, a.dtype) for a in like_leaves),
    )
    return jax.tree.unflatten(like_tree, out)


def _flat(function, held_tree, x_tree, held, x):
    return jax.tree.leaves(function(jax.tree.unflatten(held_tree, held), jax.tree.unflatten(x_tree, x)))


def _run(*args, function, num_held, **_):
    return function.run(args[:num_held], args[num_held:])


def _jvp(primals, tangents, *, function, num_held, **params):
    held, x = primals[:num_held], primals[num_held:]
    run = functools.partial(_linear_p.bind, function=function, num_held=num_held, **params)
    out = run(*primals)
    d_x = map(ad.instantiate_zeros, tangents[num_held:])
    d_out = run(*held, *d_x)
    moving = [k for k, tangent in enumerate(tangents[:num_held]) if type(tangent) is not ad.Zero]
    if moving:

        def of_moving(some):
            return function.by_jax(tuple(some.get(k, value) for k, value in enumerate(held)), x)

        _, more = jax.jvp(of_moving, ({k: held[k] for k in moving},), ({k: tangents[k] for k in moving},))
        d_out = [a + b for a, b in zip(d_out, more, strict=True)]
    return out, d_out


def _transpose(cotangents, *args, function, transpose, num_held, **_):
    held, x = args[:num_held], args[num_held:]
    types = (a.aval if ad.is_undefined_primal(a) else jax.typeof(a) for a in x)
    like = tuple((a.shape, a.dtype) for a in types)
    cotangents = map(ad.instantiate_zeros, cotangents)
    d_x = _linear_p.bind(*held, *cotangents, function=transpose, transpose=function, num_held=num_held, like=like)
    return [None] * num_held + [d if ad.is_undefined_primal(a) else None for d, a in zip(d_x, x, strict=True)]


def _batch(args, axes, *, function, transpose, num_held, like):
    (size,) = {a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None}
    held = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)]
    held_axes = tuple(None if axis is None else 0 for axis in axes[:num_held])
    x = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(args[num_held:], axes[num_held:], strict=True)
    ]
    out = _linear_p.bind(
        *held[:num_held],
        *x,
        function=Linear(*(jax.vmap(f, in_axes=(held_axes, 0)) for f in function)),
        transpose=Linear(*(jax.vmap(f, in_axes=(held_axes, 0)) for f in transpose)),
        num_held=num_held,
        like=tuple(((size, *shape), dtype) for shape, dtype in like),
    )
    return out, [0] * len(out)


_linear_p.def_impl(_run)
_linear_p.def_abstract_eval(lambda *avals, like, **_: [result_type(shape, dtype, avals[0]) for shape, dtype in like])
mlir.register_lowering(_linear_p, lambda ctx, *args, **params: lower(functools.partial(_run, **params), ctx, *args))
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
batching.primitive_batchers[_linear_p] = _batch
