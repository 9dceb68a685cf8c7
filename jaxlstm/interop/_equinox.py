"""Equinox's LSTM cell, in. Its arrays are PyTorch's, gates i, f, g, o, with one bias."""

from typing import Any

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.interop._cells import check_array, in_jax, one_bias, reading, stacked


def from_equinox(cells: Any) -> LSTMParams:
    """Parameters from `equinox.nn.LSTMCell`.

    Args:
        cells: one cell, or a list over layers of a stack, first to last; a layer of two directions is a pair
            `(forward, backward)`.

    Returns:
        `LSTMParams`; Equinox's one bias is `bias_ih`, and `bias_hh` is zero; without biases (`use_bias=False`), none.

    Raises:
        ValueError: not an LSTM cell; arrays of other shapes or not floating. The message names the array.

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


def _cell(cell: Any) -> LSTMCellParams:
    if not all(hasattr(cell, name) for name in ("weight_ih", "weight_hh", "bias")):
        raise TypeError(f"expected an equinox.nn.LSTMCell, got {type(cell).__name__}.")
    weight_hh = check_array("weight_hh", cell.weight_hh, "4H, H", (None, None))
    hidden = weight_hh.shape[1]
    check_array("weight_hh", weight_hh, "4H, H", (4 * hidden, hidden))
    weight_ih = check_array("weight_ih", cell.weight_ih, "4H, I", (4 * hidden, None))
    return one_bias(
        weight_ih, weight_hh, None if cell.bias is None else check_array("bias", cell.bias, "4H", (4 * hidden,))
    )
