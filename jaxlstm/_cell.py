"""The LSTM cell: its equations, and nothing else.

    i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
    g = tanh   (W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
    c' = f * c + i * g                                h' = o * tanh(c')        (then W_hr h' if projected)

As in `torch.nn.LSTMCell`; the projection is that of Sak, Senior & Beaufays 2014 (arXiv:1402.1128).
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm._types import LSTMCellParams, LSTMState


def matmul(x: jax.Array, weight: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """`x weight^T`: x `[..., K]`, weight `[N, K]`, to `[..., N]`, accumulated in and returned as `dtype`."""
    contract_last = (((x.ndim - 1,), (1,)), ((), ()))
    return lax.dot_general(x.astype(weight.dtype), weight, contract_last, preferred_element_type=jnp.dtype(dtype))


def input_gates(params: LSTMCellParams, x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """`W_ih x + b_ih + b_hh`, the share of the gates that no state enters: x `[..., I]` to `[..., 4H]`."""
    gates = matmul(x, params.weight_ih, dtype)
    if params.bias_ih is not None and params.bias_hh is not None:
        gates += lax.expand_dims(params.bias_ih.astype(dtype) + params.bias_hh.astype(dtype), range(gates.ndim - 1))
    return gates


def recur(gates: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(h', c')`, `h'` before any projection: gates `[..., 4H]` before activation, c `[..., H]`."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def step(params: LSTMCellParams, state: LSTMState, xp: jax.Array) -> LSTMState:
    """One step from the projected input `xp = input_gates(params, x)`, `[..., 4H]`, in the state's own dtype."""
    h, c = recur(xp + matmul(state.h, params.weight_hh, xp.dtype), state.c)
    if params.weight_hr is not None:
        h = matmul(h, params.weight_hr, h.dtype)
    return LSTMState(h, c)
