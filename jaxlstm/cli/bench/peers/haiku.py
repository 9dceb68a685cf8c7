"""Haiku's `LSTM` under `dynamic_unroll`: `DeepRNN` for layers, a second unroll in reverse for the other direction."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import Shape, Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias, reordered


def _name(layer: int, direction: int) -> str:
    return f"lstm_{layer}_{direction}"


def load(weights: LSTMParams) -> dict:
    """One kernel on `[x, h]`, gates in the order i, g, f, o."""

    def cell(params: LSTMCellParams) -> dict:
        kernel = jnp.concatenate([params.weight_ih, params.weight_hh], axis=1)
        # Haiku adds 1 to the forget gate at every step.
        i, f, g, o = jnp.split(bias(params), 4)
        return {"w": reordered(kernel, "igfo").T, "b": jnp.concatenate([i, g, f - 1, o])}

    return {
        f"{_name(layer, direction)}/linear": cell(params)
        for layer, cells in enumerate(weights)
        for direction, params in enumerate(cells)
    }


def _unroll(core: hk.RNNCore, x: jax.Array, *, reverse: bool = False) -> Any:
    start = jax.tree.map(lambda state: state.astype(x.dtype), core.initial_state(x.shape[1]))
    return hk.dynamic_unroll(core, x, start, reverse=reverse)


def runner(work: Work) -> JaxRunner:
    """As a transformed function without randomness."""
    shape: Shape = work.shape

    def forward(x: jax.Array) -> tuple[jax.Array, States]:
        lstms = [
            [hk.LSTM(shape.hidden, name=_name(layer, d)) for d in range(shape.directions)]
            for layer in range(shape.layers)
        ]
        if shape.directions == 1:
            x, states = _unroll(hk.DeepRNN([forward_only for (forward_only,) in lstms]), x)
        else:
            states = []
            for ahead, back in lstms:
                y_ahead, state_ahead = _unroll(ahead, x)
                y_back, state_back = _unroll(back, x, reverse=True)
                x = jnp.concatenate([y_ahead, y_back], axis=-1)
                states += [state_ahead, state_back]
        return x, ([state.hidden for state in states], [state.cell for state in states])

    return JaxRunner(work, load, hk.without_apply_rng(hk.transform(forward)).apply)
