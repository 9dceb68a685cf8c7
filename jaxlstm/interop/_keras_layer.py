"""One of Keras's LSTM layers as the cells of its directions: from its arrays, and what its configuration must be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlstm._types import LSTMCellParams
from jaxlstm.interop._cells import cell_of, check_array, one_bias
from jaxlstm.interop._keras_config import layers_of, refuse_other_arrays, refuse_other_equations


def cells_of(layer: Any) -> list[LSTMCellParams]:
    """The directions of a layer, or of what its `get_weights()` gives."""
    if not hasattr(layer, "get_weights"):
        return cells_of_arrays(layer)
    config = layer.get_config()
    if "layers" in config:
        raise ValueError("a whole model: give its LSTM layers, from_keras([layer, ...]).")
    found = layers_of({"class_name": type(layer).__name__, "config": config})
    if len(found) > 1:
        raise ValueError("a stack of cells: give them as a list over layers, from_keras(list(layer.cell.cells)).")
    for each in found:
        refuse_other_equations(each)
    # Not the layer's own list: that of Keras 2 has what is frozen at its end.
    ways = (layer.forward_layer, layer.backward_layer) if hasattr(layer, "forward_layer") else (layer,)
    weights = [way.get_weights() for way in ways]
    cells = cells_of_arrays([array for arrays in weights for array in arrays])
    if not found:
        raise ValueError(f"{type(layer).__name__}: its configuration tells no LSTM's equations. Give the LSTM inside.")
    for way, arrays in zip(found[0].ways, weights, strict=True):
        refuse_other_arrays(way, arrays)
    return cells


def cells_of_arrays(arrays: Sequence[Any]) -> list[LSTMCellParams]:
    """The directions of a layer from its arrays, in Keras's order."""
    if len(arrays) in (2, 3):
        return [_cell(*arrays)]
    if len(arrays) in (4, 6):
        half = len(arrays) // 2
        return [_cell(*arrays[:half]), _cell(*arrays[half:])]
    raise ValueError(
        "expected kernel, recurrent_kernel and, with use_bias, bias, or twice as many for Bidirectional; got "
        f"{len(arrays)} arrays. Build the layer before its weights are read."
    )


def _cell(kernel: Any, recurrent_kernel: Any, bias: Any = None) -> LSTMCellParams:
    recurrent_kernel = check_array("recurrent_kernel", recurrent_kernel, "H, 4H", (None, None))
    hidden = recurrent_kernel.shape[0]
    check_array("recurrent_kernel", recurrent_kernel, "H, 4H", (max(hidden, 1), 4 * hidden))
    kernel = check_array("kernel", kernel, "I, 4H", (None, 4 * hidden))
    if bias is None:
        return one_bias(kernel.T, recurrent_kernel.T, None)
    if np.shape(bias) == (8 * hidden,):
        return _cudnn_cell(kernel, recurrent_kernel, check_array("bias", bias, "8H", (8 * hidden,)))
    return one_bias(kernel.T, recurrent_kernel.T, check_array("bias", bias, "4H", (4 * hidden,)))


def _cudnn_cell(kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray) -> LSTMCellParams:
    """CuDNNLSTM's arrays have Keras's shapes but hold, gate by gate, cuDNN's `[H, I]` and `[H, H]`, which are ours."""
    hidden = len(recurrent_kernel)
    weight_ih = [gate.reshape(hidden, -1) for gate in np.split(kernel, 4, axis=1)]
    weight_hh = np.split(recurrent_kernel, 4, axis=1)
    return cell_of(np.concatenate(weight_ih), np.concatenate(weight_hh), *np.split(bias, 2))
