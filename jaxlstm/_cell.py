"""The LSTM cell: its equations, and nothing else.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    g = tanh   (W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
    c' = f * c + i * g                                h' = o * tanh(c')        (then W_hr h' if projected)

As in `torch.nn.LSTMCell`; the projection is that of Sak, Senior & Beaufays 2014 (arXiv:1402.1128).
Gates are the four arrays (i, f, g, o), in whatever layout c has.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm._types import LSTMCellParams, LSTMState

Gates: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def activate(gates: Gates) -> Gates:
    """The gates, from the sums that go into them."""
    i, f, g, o = gates
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def advance(gates: Gates, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(h', c')` from active gates, h' before any projection."""
    i, f, g, o = gates
    c = f * c + i * g
    return o * jnp.tanh(c), c


def step(params: LSTMCellParams, state: LSTMState, x: jax.Array) -> LSTMState:
    """One step of x `[..., I]`, accumulated in the state's own dtype: h `[..., P]`, c `[..., H]`."""

    def matmul(x, weight):
        contract_last = (((x.ndim - 1,), (1,)), ((), ()))
        return lax.dot_general(x.astype(weight.dtype), weight, contract_last, preferred_element_type=state.c.dtype)

    sums = matmul(x, params.weight_ih) + matmul(state.h, params.weight_hh)
    for bias in (params.bias_ih, params.bias_hh):
        if bias is not None:
            sums += jnp.broadcast_to(bias.astype(sums.dtype), sums.shape)
    i, f, g, o = jnp.split(sums, 4, axis=-1)
    h, c = advance(activate((i, f, g, o)), state.c)
    return LSTMState(h if params.weight_hr is None else matmul(h, params.weight_hr), c)
