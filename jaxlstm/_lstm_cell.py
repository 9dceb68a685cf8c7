"""The LSTM cell: its equations, and the derivative of its gates.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    g = tanh   (W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
    c' = f * c + i * g                                h' = o * tanh(c')        (then W_hr h' if projected)

As in `torch.nn.LSTMCell`; the projection is that of Sak, Senior & Beaufays 2014 (arXiv:1402.1128).
Gates are the four arrays (i, f, g, o), each of c's shape.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxlstm._types import LSTMState

Gates: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def lstm(extra: None, state: LSTMState, x_sums: jax.Array, h_sums: jax.Array) -> tuple[LSTMState, jax.Array]:
    """The rule of a `jaxlstm.Cell`: the state after a step, and its h once more."""
    del extra
    i, f, g, o = x_sums + h_sums
    h, c = advance(activate((i, f, g, o)), state.c)
    return LSTMState(h, c), h


def activate(gate_inputs: Gates) -> Gates:
    """The gates, from their inputs (pre-activations)."""
    i, f, g, o = gate_inputs
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def activate_tangent(gates: Gates, d_gate_inputs: Gates) -> Gates:
    """The tangent of `activate`, from its results: sigmoid' = s (1 - s), tanh' = 1 - t^2."""
    i, f, g, o = gates
    d_i, d_f, d_g, d_o = d_gate_inputs
    return i * (1 - i) * d_i, f * (1 - f) * d_f, (1 - g * g) * d_g, o * (1 - o) * d_o


def advance(gates: Gates, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(h', c')` from active gates, h' before any projection."""
    i, f, g, o = gates
    c = f * c + i * g
    return o * jnp.tanh(c), c
