"""Equinox's `LSTMCell` or `GRUCell` under `lax.scan`, over the batch by `vmap`, as documented; batch-major."""

import equinox as eqx
import jax
import jax.numpy as jnp

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias

Cells = list[list[eqx.nn.LSTMCell | eqx.nn.GRUCell]]


def load(weights: LSTMParams) -> Cells:
    """PyTorch's own layout with one bias, and a second one of a GRU's n gate."""

    def cell(params: LSTMCellParams) -> eqx.nn.LSTMCell | eqx.nn.GRUCell:
        (rows, hidden_size), input_size = params.weight_hh.shape, params.weight_ih.shape[1]
        if rows == 3 * hidden_size:
            assert params.bias_ih is not None
            assert params.bias_hh is not None
            n = jnp.arange(3) == 2
            shared = jnp.where(jnp.repeat(n, hidden_size), params.bias_ih, bias(params))
            blank = eqx.nn.GRUCell(input_size, hidden_size, key=jax.random.key(0))
            leaves = (params.weight_ih, params.weight_hh, shared, params.bias_hh[2 * hidden_size :])
            return eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n), blank, leaves)
        blank = eqx.nn.LSTMCell(input_size, hidden_size, key=jax.random.key(0))
        leaves = (params.weight_ih, params.weight_hh, bias(params))
        return eqx.tree_at(lambda c: (c.weight_ih, c.weight_hh, c.bias), blank, leaves)

    return [[cell(params) for params in cells] for cells in weights]


def apply(layers: Cells, x: jax.Array) -> tuple[jax.Array, States]:
    """From x `[B, T, I]` to output and final states."""

    def run(cell: eqx.nn.LSTMCell | eqx.nn.GRUCell, x: jax.Array, *, reverse: bool):
        zeros = jnp.zeros(cell.hidden_size, x.dtype)
        if isinstance(cell, eqx.nn.GRUCell):

            def step(state, x):
                (h,) = state
                h = cell(x, h)
                return (h,), h

            return jax.lax.scan(step, (zeros,), x, reverse=reverse)

        def lstm_step(state, x):
            state = cell(x, state)
            return state, state[0]

        return jax.lax.scan(lstm_step, (zeros, zeros), x, reverse=reverse)

    def sequence(x: jax.Array) -> tuple[jax.Array, States]:
        finals = []
        for cells in layers:
            states, outputs = zip(*(run(cell, x, reverse=bool(d)) for d, cell in enumerate(cells)), strict=True)
            finals += states
            x = jnp.concatenate(outputs, axis=-1)
        return x, tuple(zip(*finals, strict=True))

    return jax.vmap(sequence)(x)


def runner(work: Work) -> JaxRunner:
    """Weights inside the cells, cells inside a list."""
    return JaxRunner(work, load, apply, batch_first=True)
