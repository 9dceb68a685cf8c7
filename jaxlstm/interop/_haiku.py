"""Haiku's LSTM, in.

Haiku keeps one weight `w [I+H, 4H]` for the input and the state together and one bias `b [4H]`, gates in the order
i, g, f, o. It adds 1 to the forget gate at every step, beside the bias.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlstm._types import CellParams, LSTMParams
from jaxlstm.interop._cells import check_array, in_jax, one_bias, reading, reorder, stacked

_TO_IFGO = (0, 2, 1, 3)


def from_haiku(params: Any) -> LSTMParams:
    """Parameters from `haiku.LSTM`.

    Args:
        params: one layer, or a list over layers of a stack, first to last. A layer is a module's own `{"w": [I+H, 4H],
            "b": [4H]}`, or a mapping that holds it alone, as `{"lstm/linear": {"w": ..., "b": ...}}`.

    Returns:
        `LSTMParams`. Haiku's one bias, with the 1 that it adds to the forget gate, is `bias_ih`; `bias_hh` is zero.

    Raises:
        ValueError: names other than w and b, or several modules; arrays of other shapes or not floating; a
            `haiku.GRU`, which is another cell than PyTorch's. The message names the key.

    Source: https://dm-haiku.readthedocs.io/en/latest/api.html#lstm

    >>> import numpy as np, jax.numpy as jnp, jaxlstm
    >>> modules = {"lstm/linear": {"w": np.ones((3 + 5, 20), np.float32), "b": np.zeros(20, np.float32)}}
    >>> params = jaxlstm.interop.from_haiku(modules)  # two layers: [modules["lstm/linear"], modules["lstm_1/linear"]]
    >>> output, state = jaxlstm.lstm(params, jnp.ones((7, 2, 3)))
    """
    with reading("params"):
        return in_jax(stacked([_cell(layer)] for layer in (params if isinstance(params, list) else [params])))


def _cell(layer: Any) -> CellParams:
    if not isinstance(layer, Mapping):
        raise TypeError(f"expected a mapping of Haiku's names, got {type(layer).__name__}.")
    if len(layer) == 1:
        (inner,) = layer.values()
        return _cell(inner)
    if set(layer) == {"w_i", "w_h", "b"}:
        raise ValueError(
            "a haiku.GRU: its reset gate acts on h before the product, W_hn (r * h), and PyTorch's after it, "
            "r * (W_hn h). No weights make the one of the other, nor does a jaxlstm.Cell; keep it in Haiku."
        )
    if set(layer) != {"w", "b"}:
        raise ValueError(f"expected the w and b of one LSTM, or a list over layers of these, got {', '.join(layer)}.")
    b = check_array("b", layer["b"], "4H", (None,))
    hidden = len(b) // 4
    w = check_array("w", layer["w"], "I+H, 4H", (None, len(b)))
    if len(b) != 4 * hidden or len(w) <= hidden:
        raise ValueError(f"w, b: expected [I+H, 4H] and [4H], got {list(w.shape)} and {list(b.shape)}.")
    forget = np.repeat(np.array([0, 1, 0, 0], b.dtype), hidden)
    weight_ih, weight_hh = np.split(reorder(w.T, _TO_IFGO), [len(w) - hidden], axis=1)
    return one_bias(weight_ih, weight_hh, reorder(b, _TO_IFGO) + forget)
