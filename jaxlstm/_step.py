"""One step of any cell, alone: its two products, and its rule."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm._types import Cell, CellParams


def step(cell: Cell, params: CellParams, state: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """State and output after one step of x `[B, I]`, or `[I]`, accumulated in the state's dtype; here B comes first."""
    dtype = state.h.dtype

    def matmul(x, weight):
        contract_last = (((x.ndim - 1,), (1,)), ((), ()))
        return lax.dot_general(x.astype(weight.dtype), weight, contract_last, preferred_element_type=dtype)

    def sums(x, weight, bias):
        out = matmul(x, weight)
        if bias is not None:
            out += jnp.broadcast_to(bias.astype(dtype), out.shape)
        return out.reshape(*out.shape[:-1], cell.num_gates, out.shape[-1] // cell.num_gates)

    rule = jax.vmap(cell.rule, in_axes=(None, 0, 0, 0)) if x.ndim == 2 else cell.rule
    x_sums = sums(x, params.weight_ih, params.bias_ih)
    h_sums = sums(state.h, params.weight_hh, params.bias_hh)
    after, y = rule(params.extra, state, x_sums, h_sums)
    if params.weight_hr is not None:
        y = matmul(y, params.weight_hr)
        after = after._replace(h=y)
    return after, y
