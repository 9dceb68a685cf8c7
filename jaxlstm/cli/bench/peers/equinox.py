"""Equinox's `LSTMCell` under `lax.scan`, over the batch by `vmap`, as its documentation shows it; batch-major."""

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias

Cells = list[list[eqx.nn.LSTMCell]]


def load(weights: LSTMParams) -> Cells:
    """PyTorch's own layout with one bias."""

    def cell(params: LSTMCellParams) -> eqx.nn.LSTMCell:
        rows, input_size = params.weight_ih.shape
        blank = eqx.nn.LSTMCell(input_size, rows // 4, key=jax.random.key(0))
        leaves = (params.weight_ih, params.weight_hh, bias(params))
        return eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), blank, leaves)

    return [[cell(params) for params in cells] for cells in weights]


def apply(layers: Cells, x: jax.Array) -> tuple[jax.Array, States]:
    """X `[B, T, I]` to output and final states."""

    def run(cell: eqx.nn.LSTMCell, x: jax.Array, *, reverse: bool):
        def step(state, x):
            state = cell(x, state)
            return state, state[0]

        zeros = jnp.zeros(cell.hidden_size, x.dtype)
        return jax.lax.scan(step, (zeros, zeros), x, reverse=reverse)

    def sequence(x: jax.Array) -> tuple[jax.Array, States]:
        finals = []
        for cells in layers:
            states, outputs = zip(*(run(cell, x, reverse=bool(d)) for d, cell in enumerate(cells)), strict=True)
            finals += states
            x = jnp.concatenate(outputs, axis=-1)
        h, c = zip(*finals, strict=True)
        return x, (h, c)

    return jax.vmap(sequence)(x)


def runner(work: Work) -> JaxRunner:
    """Weights inside the cells, cells inside a list."""
    return JaxRunner(work, load, apply, batch_first=True)
