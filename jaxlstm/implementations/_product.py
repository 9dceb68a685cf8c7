"""A matrix product whose transpose costs no more than itself.

XLA's CPU backend multiplies `W [M, K]` with `x [K, N]` at the machine's rate, but takes 2.5 to 12 times as long for the
`W^T y` that transposing this product asks for, since it then reads W across its rows (H from 128 to 512, N from 8 to
64, one core of a Zen 5), which would be most of the backward pass. This product is therefore told W^T as well, laid out
once before the loop, and its transpose multiplies by that.
"""

import jax
from jax import lax

from jaxlstm.implementations._linear import Linear, linear


def with_transpose(weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(W, W^T)`, the second an array of its own, for `product`."""
    return weight, lax.optimization_barrier(weight.T)  # Without it, XLA reads W in its place.


def product(weights: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    """`W x`, for W `[M, K]` as `with_transpose` gives it and x `[K, ...]`; accumulated in and returned as x's dtype."""
    weight, _ = weights
    like = jax.ShapeDtypeStruct((weight.shape[0], *x.shape[1:]), x.dtype)
    return linear(Linear(_forward, _forward), Linear(_backward, _backward), weights, x, like)


def multiply(weight: jax.Array, x: jax.Array, dtype) -> jax.Array:
    """`W x`, for W `[M, K]` and x `[K, ...]`: multiplied in W's dtype, accumulated in and returned as `dtype`."""
    contract = (((1,), (0,)), ((), ()))
    return lax.dot_general(weight, x.astype(weight.dtype), contract, preferred_element_type=dtype)


def _forward(weights, x):
    return multiply(weights[0], x, x.dtype)


def _backward(weights, y):
    return _forward(weights[::-1], y)
