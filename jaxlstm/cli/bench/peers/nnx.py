"""Flax NNX's `RNN(OptimizedLSTMCell)`, `Bidirectional` around two of them, layers in a row; batch-major."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlstm._shapes import layer_input_sizes
from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import Shape, Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias


def _layer(input_size: int, shape: Shape) -> nnx.RNN | nnx.Bidirectional:
    rnns = [
        nnx.RNN(nnx.OptimizedLSTMCell(input_size, shape.hidden, rngs=nnx.Rngs(0)), return_carry=True)
        for _ in range(shape.directions)
    ]
    return rnns[0] if len(rnns) == 1 else nnx.Bidirectional(*rnns, return_carry=True)


def load(weights: LSTMParams) -> nnx.State:
    """Kernels transposed, all gates in one, in PyTorch's order; the bias with the state's kernel."""

    def rnn(params: LSTMCellParams) -> dict:
        from_state = {"kernel": params.weight_hh.T, "bias": bias(params)}
        return {"cell": {"dense_i": {"kernel": params.weight_ih.T}, "dense_h": from_state}}

    names = ("forward_rnn", "backward_rnn")
    return nnx.State(
        {
            layer: rnn(cells[0]) if len(cells) == 1 else dict(zip(names, map(rnn, cells), strict=True))
            for layer, cells in enumerate(weights)
        }
    )


def runner(work: Work) -> JaxRunner:
    """The functional form: split outside the compiled call, merged inside it."""
    shape = work.shape
    sizes = layer_input_sizes(shape.input, shape.hidden, shape.layers, bidirectional=shape.directions == 2)
    graph, _, rest = nnx.split(nnx.List(_layer(size, shape) for size in sizes), nnx.Param, ...)

    def apply(params: nnx.State, x: jax.Array) -> tuple[jax.Array, States]:
        # Given, as without it NNX draws the first carry and so changes its random state inside the compiled call.
        zeros = jnp.zeros((shape.batch, shape.hidden), x.dtype)
        carries = []
        y: Any = x
        for layer in nnx.merge(graph, params, rest):
            if isinstance(layer, nnx.Bidirectional):
                pair, y = layer(y, initial_carry=((zeros, zeros), (zeros, zeros)))
                carries += pair
            else:
                carry, y = layer(y, initial_carry=(zeros, zeros))
                carries.append(carry)
        c, h = zip(*carries, strict=True)
        return y, (h, c)

    return JaxRunner(work, load, apply, batch_first=True)
