"""Recurrent cells for `jaxlstm.fold`: PyTorch's, and the variants of an LSTM that ONNX, Keras and the literature have.

A rule is the whole of a cell but its two products: see `jaxlstm.Cell` for writing one. `x_sums` is `W_ih x + b_ih` and
`h_sums` is `W_hh h + b_hh`, each `[G, H]` for one row.

>>> import jax, jax.numpy as jnp, jaxlstm
>>> cell = jaxlstm.cells.lstm(peephole=True, coupled=True)
>>> params = jaxlstm.init_fold(jax.random.key(0), cell, input_size=3, hidden_size=5, bidirectional=True)
>>> output, (h_n, c_n) = jaxlstm.fold(cell, params, jnp.ones((7, 2, 3)))
>>> output.shape
(7, 2, 10)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlstm import _gru_cell, _lstm_cell
from jaxlstm._types import Cell, HiddenState, LSTMState

__all__ = ["GRU", "LSTM", "RNN", "HiddenState", "lstm"]


def rnn(extra: None, state: HiddenState, x_sums: jax.Array, h_sums: jax.Array) -> tuple[HiddenState, jax.Array]:
    """The rule of `RNN`."""
    del extra, state
    (h,) = jnp.tanh(x_sums + h_sums)
    return HiddenState(h), h


LSTM = Cell(_lstm_cell.lstm, num_gates=4)
"""`torch.nn.LSTM`'s, with gates i, f, g, o."""

GRU = Cell(_gru_cell.gru, num_gates=3, state=HiddenState)
"""`torch.nn.GRU`'s, with gates r, z, n, the reset gate after the product: the equations of `jaxlstm.gru_cell`.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
"""

RNN = Cell(rnn, num_gates=1, state=HiddenState)
"""`torch.nn.RNN(nonlinearity="tanh")`'s.

    h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
"""


@dataclasses.dataclass(frozen=True)
class LSTMRule:
    """An LSTM's rule with these options: equal options make equal cells."""

    __name__ = "lstm"

    peephole: bool
    layer_norm: bool
    coupled: bool
    clip: float | None
    gate_activation: Callable
    cell_activation: Callable
    output_activation: Callable

    def __call__(self, extra: Any, state: LSTMState, x_sums: jax.Array, h_sums: jax.Array):
        if self.layer_norm:
            x_sums, h_sums = _normalize(x_sums, extra["x_norm"]), _normalize(h_sums, extra["h_norm"])
        i, f, g, o = x_sums + h_sums
        if self.peephole:
            i, f = i + extra["peephole_i"] * state.c, f + extra["peephole_f"] * state.c
        i, g = self.gate_activation(self._clipped(i)), self.cell_activation(self._clipped(g))
        f = 1 - i if self.coupled else self.gate_activation(self._clipped(f))
        c = f * state.c + i * g
        if self.peephole:
            o = o + extra["peephole_o"] * c
        o = self.gate_activation(self._clipped(o))
        h = o * self.output_activation(_normalize(c, extra["c_norm"]) if self.layer_norm else c)
        return LSTMState(h, c), h

    def _clipped(self, gate_input: jax.Array) -> jax.Array:
        return gate_input if self.clip is None else jnp.clip(gate_input, -self.clip, self.clip)

    def init_extra(self, key: jax.Array, hidden_size: int, dtype: Any) -> dict[str, Any]:
        """Peepholes as PyTorch's weights, gains of 1 and shifts of 0."""
        extra: dict[str, Any] = {}
        if self.peephole:
            bound = hidden_size**-0.5
            names = ["peephole_i", "peephole_f", "peephole_o"]
            for name, k in zip(names, jax.random.split(key, 3), strict=True):
                extra[name] = jax.random.uniform(k, (hidden_size,), dtype, -bound, bound)
        if self.layer_norm:
            for name, shape in (("x_norm", (4, hidden_size)), ("h_norm", (4, hidden_size)), ("c_norm", (hidden_size,))):
                extra[name] = {"gain": jnp.ones(shape, dtype), "shift": jnp.zeros(shape, dtype)}
        return extra


@dataclasses.dataclass(frozen=True)
class _InitExtra:
    """A rule's `init_extra`, equal for equal rules, as a method is not."""

    rule: LSTMRule

    def __call__(self, key: jax.Array, hidden_size: int, dtype: Any) -> dict[str, Any]:
        return self.rule.init_extra(key, hidden_size, dtype)


def _normalize(a: jax.Array, norm: dict[str, jax.Array]) -> jax.Array:
    """All of one row's numbers, to mean 0 and variance 1, then gain and shift."""
    centred = a - jnp.mean(a)
    return norm["gain"] * centred * lax.rsqrt(jnp.mean(jnp.square(centred)) + 1e-5) + norm["shift"]


def lstm(
    *,
    peephole: bool = False,
    layer_norm: bool = False,
    coupled: bool = False,
    clip: float | None = None,
    gate_activation: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid,
    cell_activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    output_activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
) -> Cell:
    """A variant of the LSTM; options combine. Inside an activation, a letter is the gate's input.

        i = sigmoid(clip(i + p_i * c))        f = sigmoid(clip(f + p_f * c))        g = tanh(clip(g))
        c' = f * c + i * g                    o = sigmoid(clip(o + p_o * c'))       h' = o * tanh(norm(c'))

    Args:
        peephole: whether the gates i, f, o see c through weights p `[H]` each (Gers & Schmidhuber 2000), in `extra` as
            `peephole_i`, `peephole_f`, `peephole_o`.
        layer_norm: whether W_ih x, W_hh h, each over all gates of a row, and the c' that h' is made of are normalized,
            with gain and shift in `extra` (Ba, Kiros & Hinton 2016). Shifts are biases, and biases would be normalized,
            so leave them out: `bias=False`.
        coupled: whether the forget gate is 1 - i (ONNX's `input_forget`); f's rows stay among the parameters, unused.
        clip: a bound of the gates' inputs (pre-activations), peepholes included; None for no bound (ONNX's `clip`).
        gate_activation: in place of the sigmoid of i, f, o (Keras's `recurrent_activation`); of arrays `[H]`.
        cell_activation: in place of g's tanh.
        output_activation: in place of the tanh of c' (Keras's `activation` is both).

    Returns:
        A `Cell` of four gates and an `LSTMState`; with no option at all `cells.LSTM`.

    Raises:
        ValueError: a bound that is not above 0.
        TypeError: an activation that can't be called.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html; https://arxiv.org/abs/1607.06450

    >>> import jax, jaxlstm
    >>> jaxlstm.cells.lstm(clip=3.0) == jaxlstm.cells.lstm(clip=3.0)
    True
    >>> cell = jaxlstm.cells.lstm(gate_activation=jax.nn.hard_sigmoid, cell_activation=jax.nn.relu)
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"clip: expected a bound above 0, got {clip}. None is for no bound.")
    for name, function in (("gate", gate_activation), ("cell", cell_activation), ("output", output_activation)):
        if not callable(function):
            raise TypeError(f"{name}_activation: expected a function of an array, got {function!r}. Try jax.nn.relu.")
    rule = LSTMRule(
        bool(peephole),
        bool(layer_norm),
        bool(coupled),
        None if clip is None else float(clip),
        gate_activation,
        cell_activation,
        output_activation,
    )
    if rule == LSTMRule(False, False, False, None, jax.nn.sigmoid, jnp.tanh, jnp.tanh):
        return LSTM
    return Cell(rule, num_gates=4, init_extra=_InitExtra(rule) if peephole or layer_norm else None)
