"""A function that is linear in some of its arguments, and is told its own transpose.

JAX can transpose whatever is made of its own operations, but the transpose that it finds may be slow (see `_product`),
and a kernel it can't transpose at all. What JAX lacks (0.10.2 and 0.12.0 were read): `linear_call` of
`jax.custom_derivatives` is meant for this, and has no `vmap`. tests/test_jax_lacks.py fails once it has.
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
    """Two ways to compute a function of `(residuals, x)` that is linear in x."""

    run: Callable
    """What computes it."""
    by_jax: Callable
    """The same in operations that JAX differentiates: what its derivative in `residuals` comes from."""


def linear(function: Linear, transpose: Linear, residuals: Any, x: Any, like: Any) -> Any:
    """`function(residuals, x)`, linear in x, whose transpose is `transpose(residuals, cotangent)`.

    Args:
        function: from `(residuals, x)` to a pytree as `like`.
        transpose: from `(residuals, cotangent)` to a pytree as x.
        residuals: a pytree of arrays that both may use; differentiated through `by_jax`.
        x: a pytree of arrays.
        like: a pytree of arrays of the result's shapes and dtypes.
    """
    # In `shard_map` results vary over each mesh axis that any argument varies over. The gradient of one that does not
    # is a sum over that axis, which JAX writes only where all arguments are first made to vary alike.
    residuals, x = varying_alike((residuals, x))
    residual_leaves, residual_tree = jax.tree.flatten(residuals)
    x_leaves, x_tree = jax.tree.flatten(x)
    like_leaves, like_tree = jax.tree.flatten(like)
    out = _linear_p.bind(
        *residual_leaves,
        *x_leaves,
        function=Linear(*(functools.partial(_flat, f, residual_tree, x_tree) for f in function)),
        transpose=Linear(*(functools.partial(_flat, f, residual_tree, like_tree) for f in transpose)),
        num_residuals=len(residual_leaves),
        like=tuple((a.shape, a.dtype) for a in like_leaves),
    )
    return jax.tree.unflatten(like_tree, out)


def _flat(function, residual_tree, x_tree, residuals, x):
    return jax.tree.leaves(function(jax.tree.unflatten(residual_tree, residuals), jax.tree.unflatten(x_tree, x)))


def _run(*args, function, num_residuals, **_):
    return function.run(args[:num_residuals], args[num_residuals:])


def _jvp(primals, tangents, *, function, num_residuals, **params):
    residuals, x = primals[:num_residuals], primals[num_residuals:]
    run = functools.partial(_linear_p.bind, function=function, num_residuals=num_residuals, **params)
    out = run(*primals)
    d_x = map(ad.instantiate_zeros, tangents[num_residuals:])
    d_out = run(*residuals, *d_x)
    moving = [k for k, tangent in enumerate(tangents[:num_residuals]) if type(tangent) is not ad.Zero]
    if moving:

        def of_moving(some):
            return function.by_jax(tuple(some.get(k, value) for k, value in enumerate(residuals)), x)

        _, more = jax.jvp(of_moving, ({k: residuals[k] for k in moving},), ({k: tangents[k] for k in moving},))
        d_out = [a + b for a, b in zip(d_out, more, strict=True)]
    return out, d_out


def _transpose(cotangents, *args, function, transpose, num_residuals, **_):
    residuals, x = args[:num_residuals], args[num_residuals:]
    types = (a.aval if ad.is_undefined_primal(a) else jax.typeof(a) for a in x)
    like = tuple((a.shape, a.dtype) for a in types)
    cotangents = map(ad.instantiate_zeros, cotangents)
    d_x = _linear_p.bind(
        *residuals, *cotangents, function=transpose, transpose=function, num_residuals=num_residuals, like=like
    )
    return [None] * num_residuals + [d if ad.is_undefined_primal(a) else None for d, a in zip(d_x, x, strict=True)]


def _batch(args, axes, *, function, transpose, num_residuals, like):
    (size,) = {a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None}
    residuals = [a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True)]
    residual_axes = tuple(None if axis is None else 0 for axis in axes[:num_residuals])
    x = [
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(args[num_residuals:], axes[num_residuals:], strict=True)
    ]
    out = _linear_p.bind(
        *residuals[:num_residuals],
        *x,
        function=Linear(*(jax.vmap(f, in_axes=(residual_axes, 0)) for f in function)),
        transpose=Linear(*(jax.vmap(f, in_axes=(residual_axes, 0)) for f in transpose)),
        num_residuals=num_residuals,
        like=tuple(((size, *shape), dtype) for shape, dtype in like),
    )
    return out, [0] * len(out)


_linear_p.def_impl(_run)
_linear_p.def_abstract_eval(lambda *avals, like, **_: [result_type(shape, dtype, avals[0]) for shape, dtype in like])
mlir.register_lowering(_linear_p, lambda ctx, *args, **params: lower(functools.partial(_run, **params), ctx, *args))
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
batching.primitive_batchers[_linear_p] = _batch
