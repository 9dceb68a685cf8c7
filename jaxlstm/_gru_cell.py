"""The GRU cell: its equations, and the derivative of its gates.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)        h' = (1 - z) * n + z * h

As in `torch.nn.GRUCell`, after Cho et al. 2014 (arXiv:1406.1078), the reset gate applied after the product.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlstm._types import HiddenState


class Gates(NamedTuple):
    """A step's gates and what they act on, each of h's shape."""

    r: jax.Array
    z: jax.Array
    n: jax.Array
    h_n: jax.Array  # W_hn h + b_hn
    h: jax.Array  # before the step


def gru(extra: None, state: HiddenState, x_sums: jax.Array, h_sums: jax.Array) -> tuple[HiddenState, jax.Array]:
    """The rule of a `jaxlstm.Cell`: the state after a step, and its h once more."""
    del extra
    r, z = x_sums[:2] + h_sums[:2]
    h = advance(activate(r, z, x_sums[2], h_sums[2], state.h))
    return HiddenState(h), h


def activate(r: jax.Array, z: jax.Array, x_n: jax.Array, h_n: jax.Array, h: jax.Array) -> Gates:
    """The gates, from their inputs (pre-activations)."""
    r = jax.nn.sigmoid(r)
    return Gates(r, jax.nn.sigmoid(z), jnp.tanh(x_n + r * h_n), h_n, h)


def activate_tangent(gates: Gates, d_r: jax.Array, d_z: jax.Array, d_x_n: jax.Array, d_h_n: jax.Array, d_h: jax.Array):
    """The tangent of `activate`, from its results: sigmoid' = s (1 - s), tanh' = 1 - t^2."""
    r, z, n, h_n, _ = gates
    d_r = r * (1 - r) * d_r
    return Gates(d_r, z * (1 - z) * d_z, (1 - n * n) * (d_x_n + d_r * h_n + r * d_h_n), d_h_n, d_h)


def advance(gates: Gates) -> jax.Array:
    """h', from the gates and h."""
    _, z, n, _, h = gates
    return (1 - z) * n + z * h
