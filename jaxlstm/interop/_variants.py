"""PyTorch's GRU and RNN with other activations and a clip, as ONNX and Keras have them; `cells.lstm` has an LSTM's."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlstm._types import Cell, HiddenState
from jaxlstm.cells import GRU, RNN


@dataclasses.dataclass(frozen=True)
class GRURule:
    """r and z by `gate_activation`, n by `cell_activation`, each of its clipped gate input."""

    __name__ = "gru"

    gate_activation: Callable
    cell_activation: Callable
    clip: float | None

    def __call__(self, extra: None, state: HiddenState, x_sums: jax.Array, h_sums: jax.Array):
        del extra
        (x_r, x_z, x_n), (h_r, h_z, h_n) = x_sums, h_sums
        r = self.gate_activation(_clipped(x_r + h_r, self.clip))
        z = self.gate_activation(_clipped(x_z + h_z, self.clip))
        n = self.cell_activation(_clipped(x_n + r * h_n, self.clip))
        h = (1 - z) * n + z * state.h
        return HiddenState(h), h


@dataclasses.dataclass(frozen=True)
class RNNRule:
    """h by `activation` of its clipped input."""

    __name__ = "rnn"

    activation: Callable
    clip: float | None

    def __call__(self, extra: None, state: HiddenState, x_sums: jax.Array, h_sums: jax.Array):
        del extra, state
        (h,) = self.activation(_clipped(x_sums + h_sums, self.clip))
        return HiddenState(h), h


def _clipped(gate_input: jax.Array, clip: float | None) -> jax.Array:
    return gate_input if clip is None else jnp.clip(gate_input, -clip, clip)


def gru(gate_activation: Callable, cell_activation: Callable, clip: float | None = None) -> Cell:
    """A GRU; PyTorch's where nothing differs from it. Functions are of arrays `[H]`."""
    rule = GRURule(gate_activation, cell_activation, clip)
    return GRU if rule == GRURule(jax.nn.sigmoid, jnp.tanh, None) else Cell(rule, 3, HiddenState)


def rnn(activation: Callable, clip: float | None = None) -> Cell:
    """A plain RNN; PyTorch's where nothing differs from it. The function is of arrays `[..., H]`."""
    rule = RNNRule(activation, clip)
    return RNN if rule == RNNRule(jnp.tanh, None) else Cell(rule, 1, HiddenState)
