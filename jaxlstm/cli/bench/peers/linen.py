"""Flax Linen's `RNN(OptimizedLSTMCell)` or `RNN(GRUCell)`, `Bidirectional` around two, layers in a row; batch-major."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import Shape, Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias


class Stack(nn.Module):
    """The layers one after the other."""

    shape: Shape
    cell: str
    dtype: str

    def _rnn(self, layer: int, direction: int) -> nn.RNN:
        kind = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[self.cell]
        cell = kind(self.shape.hidden, param_dtype=jnp.dtype(self.dtype), name=f"cell_{layer}_{direction}")
        return nn.RNN(cell, return_carry=True)

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, States]:
        """From x `[B, T, I]` to output and final states, from a state of zeros."""
        carries = []
        for layer in range(self.shape.layers):
            if self.shape.directions == 2:
                both = nn.Bidirectional(self._rnn(layer, 0), self._rnn(layer, 1), return_carry=True)
                pair, x = both(x)
                carries += pair
            else:
                carry, x = self._rnn(layer, 0)(x)
                carries.append(carry)
        if self.cell == "gru":
            return x, (carries,)
        c, h = zip(*carries, strict=True)
        return x, (h, c)


def load_gru(weights: LSTMParams) -> dict:
    """A kernel for each gate, the biases with the input's; n's second one with the state's."""

    def cell(params: LSTMCellParams) -> dict:
        assert params.bias_ih is not None
        assert params.bias_hh is not None
        w_i, w_h, b_i, b = (jnp.split(a, 3) for a in (params.weight_ih, params.weight_hh, params.bias_ih, bias(params)))
        b_n = params.bias_hh[-len(b_i[2]) :]
        names = {
            f"i{gate}": {"kernel": w.T, "bias": b} for gate, w, b in zip("rzn", w_i, (*b[:2], b_i[2]), strict=True)
        }
        names |= {f"h{gate}": {"kernel": w.T} for gate, w in zip("rz", w_h[:2], strict=True)}
        return names | {"hn": {"kernel": w_h[2].T, "bias": b_n}}

    return _named(weights, cell)


def load(weights: LSTMParams) -> dict:
    """A kernel for each gate from input (`ii`, ...) and from state (`hi`, ...), the bias with the latter."""

    def cell(params: LSTMCellParams) -> dict:
        rows = zip(
            "ifgo",
            jnp.split(params.weight_ih, 4),
            jnp.split(params.weight_hh, 4),
            jnp.split(bias(params), 4),
            strict=True,
        )
        return {
            name: entry
            for gate, w_i, w_h, b in rows
            for name, entry in {f"i{gate}": {"kernel": w_i.T}, f"h{gate}": {"kernel": w_h.T, "bias": b}}.items()
        }

    return _named(weights, cell)


def _named(weights: LSTMParams, cell: Callable[[LSTMCellParams], dict]) -> dict:
    return {
        "params": {
            f"cell_{layer}_{direction}": cell(params)
            for layer, cells in enumerate(weights)
            for direction, params in enumerate(cells)
        }
    }


def runner(work: Work) -> JaxRunner:
    """Cells are named by layer and direction; the rest is as their documentation has it."""
    stack = Stack(work.shape, work.cell, work.dtype)
    return JaxRunner(work, load if work.cell == "lstm" else load_gru, stack.apply, batch_first=True)
