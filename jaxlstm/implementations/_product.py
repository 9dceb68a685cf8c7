"""A matrix product whose transpose costs no more than itself.

XLA's CPU backend multiplies `W [M, K]` with `x [K, N]` at the machine's rate, but takes 2.5 to 12 times as long for the
`W^T y` that transposing this product asks for, since it then reads W across its rows (H from 128 to 512, N from 8 to
64, one core of a Zen 5), which would be most of the backward pass. This product is therefore told W^T as well, laid out
once before the loop, and its transpose multiplies by that.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_product_p = Primitive("product_with_transpose")


def with_transpose(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(W, W^T)`, the second an array of its own, for `product`."""
    return weight, jax.lax.optimization_barrier(weight.T)  # Without it, XLA reads W in its place.


def product(weights: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """`W x`, for W `[M, K]` as `with_transpose` gives it and x `[K, N]`; accumulated in and returned as x's dtype."""
    return _product_p.bind(*weights, x)


def _multiply(weight, _, x):
    return jnp.matmul(weight, x.astype(weight.dtype), preferred_element_type=x.dtype)


def _abstract(weight, _, x):
    return x.update(shape=(*x.shape[:-2], weight.shape[-2], x.shape[-1]))


def _jvp(primals, tangents):
    weight, transposed, x = primals
    d_weight, _, d_x = tangents
    parts = []
    if type(d_x) is not ad.Zero:
        parts.append(_product_p.bind(weight, transposed, d_x))
    if type(d_weight) is not ad.Zero:
        parts.append(_multiply(d_weight, None, x))
    return _product_p.bind(*primals), sum(parts[1:], parts[0])


def _transpose(cotangent, weight, transposed, _):
    return None, None, _product_p.bind(transposed, weight, cotangent)


def _batch(args, axes):
    weight, transposed, x = args
    if axes[0] is None and axes[1] is None:  # Many x for one W are one wider x.
        x = jnp.moveaxis(x, axes[2], -1)
        y = _product_p.bind(weight, transposed, x.reshape(*x.shape[:-2], -1))
        return y.reshape(*y.shape[:-1], *x.shape[-2:]), y.ndim
    (size,) = {a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None}
    stacked = (
        jnp.broadcast_to(a, (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
        for a, axis in zip(args, axes, strict=True)
    )
    return _product_p.bind(*stacked), 0


_product_p.def_impl(jax.jit(_multiply))
_product_p.def_abstract_eval(_abstract)
mlir.register_lowering(_product_p, mlir.lower_fun(_multiply, multiple_results=False))
ad.primitive_jvps[_product_p] = _jvp
ad.primitive_transposes[_product_p] = _transpose
batching.primitive_batchers[_product_p] = _batch
