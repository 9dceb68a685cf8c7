"""Equinox's LSTM and GRU cells, in. Their arrays are PyTorch's, gates i, f, g, o and r, z, n, with one bias.

The GRU's is of the input; a second one, `bias_n [H]`, is for n's product with h.
"""

from typing import Any

from jaxlstm._types import CellParams, LSTMParams, rows_of
from jaxlstm.cells import GRU, LSTM
from jaxlstm.interop._cells import candidate_bias, check_array, in_jax, reading, stacked


def from_equinox(cells: Any) -> LSTMParams:
    """Parameters from `equinox.nn.LSTMCell` or `equinox.nn.GRUCell`.

    Args:
        cells: one cell, or a list over layers of a stack, first to last; a layer of two directions is a pair
            `(forward, backward)`.

    Returns:
        `LSTMParams`, of `3H` rows for a GRU, which `jaxlstm.gru` runs. Equinox's one bias is `bias_ih`, and `bias_hh`
        is zero but for the GRU's `bias_n`; without biases (`use_bias=False`), none.

    Raises:
        ValueError: not one of these cells; arrays of other shapes or not floating. The message names the array.

    Source: https://docs.kidger.site/equinox/api/nn/rnn

    >>> import equinox, jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.interop.from_equinox(equinox.nn.LSTMCell(3, 5, key=jax.random.key(0)))
    >>> output, state = jaxlstm.lstm(params, jnp.ones((7, 2, 3)))
    """
    with reading("cells"):
        layers = cells if isinstance(cells, list) else [cells]
        return in_jax(
            stacked([_cell(cell) for cell in (layer if isinstance(layer, tuple) else [layer])] for layer in layers)
        )


def _cell(cell: Any) -> CellParams:
    if not all(hasattr(cell, name) for name in ("weight_ih", "weight_hh", "bias")):
        raise TypeError(f"expected an equinox.nn.LSTMCell or GRUCell, got {type(cell).__name__}.")
    num_gates = (GRU if hasattr(cell, "bias_n") else LSTM).num_gates
    rows = rows_of(num_gates)
    weight_hh = check_array("weight_hh", cell.weight_hh, f"{rows}, H", (None, None))
    hidden = weight_hh.shape[1]
    check_array("weight_hh", weight_hh, f"{rows}, H", (num_gates * hidden, hidden))
    weight_ih = check_array("weight_ih", cell.weight_ih, f"{rows}, I", (num_gates * hidden, None))

    def bias(name: str, axes: str, size: int) -> Any:
        value = getattr(cell, name, None)
        return None if value is None else check_array(name, value, axes, (size,))

    return candidate_bias(weight_ih, weight_hh, bias("bias", rows, num_gates * hidden), bias("bias_n", "H", hidden))
