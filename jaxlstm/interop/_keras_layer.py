"""One of Keras's recurrent layers as the cells of its directions: from its arrays, and what its configuration says."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxlstm._types import CellParams, rows_of
from jaxlstm.cells import GRU, LSTM
from jaxlstm.interop._cells import cell_of_params, cell_of_shape, cell_params, check_array, one_bias, reorder
from jaxlstm.interop._keras_config import Layer, layers_of, refuse_other_arrays

FROM_ZRH = TO_ZRH = (1, 0, 2)
"""Keras's gates of a GRU, z, r, h, and PyTorch's, r, z, n: the same change of order both ways."""


def cells_of(layer: Any, equations: Callable[[Layer, str | None], Any]) -> tuple[Any, list[CellParams]]:
    """What `equations` makes of a layer, and its directions; of arrays as its `get_weights()` gives, PyTorch's cell."""
    if not hasattr(layer, "get_weights"):
        cells = cells_of_arrays(layer)
        return cell_of_params(cells[0]), cells
    config = layer.get_config()
    if "layers" in config:
        raise ValueError("a whole model: give its LSTM layers, from_keras([layer, ...]).")
    found = layers_of({"class_name": type(layer).__name__, "config": config})
    if len(found) > 1:
        raise ValueError("a stack of cells: give them as a list over layers, from_keras(list(layer.cell.cells)).")
    rules = [equations(each, _version(layer)) for each in found]
    # Not the layer's own list: that of Keras 2 has what is frozen at its end.
    ways = (layer.forward_layer, layer.backward_layer) if hasattr(layer, "forward_layer") else (layer,)
    weights = [way.get_weights() for way in ways]
    cells = cells_of_arrays([array for arrays in weights for array in arrays], configured=bool(found))
    if not found:
        raise ValueError(f"{type(layer).__name__}: its configuration tells no LSTM's equations. Give the LSTM inside.")
    for way, arrays in zip(found[0].ways, weights, strict=True):
        refuse_other_arrays(found[0].kind, way, arrays)
    return rules[0], cells


def _version(layer: Any) -> str | None:
    """Of the Keras that a layer, or what it extends, is of."""
    libraries = (each.__module__.partition(".")[0] for each in type(layer).__mro__)
    return next((sys.modules[name].__version__ for name in libraries if "keras" in name), None)


def cells_of_arrays(arrays: Sequence[Any], *, configured: bool = False) -> list[CellParams]:
    """The directions of a layer from its arrays, in Keras's order.

    Args:
        arrays: kernel, recurrent kernel and bias, if there is one, of each direction.
        configured: a configuration has been seen to tell their equations.
    """
    if len(arrays) in (2, 3):
        return [_cell(configured, *arrays)]
    if len(arrays) in (4, 6):
        half = len(arrays) // 2
        return [_cell(configured, *arrays[:half]), _cell(configured, *arrays[half:])]
    raise ValueError(
        "expected kernel, recurrent_kernel and, with use_bias, bias, or twice as many for Bidirectional; got "
        f"{len(arrays)} arrays. Build the layer before its weights are read."
    )


def _cell(configured: bool, kernel: Any, recurrent_kernel: Any, bias: Any = None) -> CellParams:
    recurrent_kernel = check_array("recurrent_kernel", recurrent_kernel, f"H, {rows_of(None)}", (None, None))
    hidden, columns = recurrent_kernel.shape
    cell = cell_of_shape((columns, hidden)) or LSTM
    rows, wide = cell.num_gates * hidden, rows_of(cell.num_gates)
    check_array("recurrent_kernel", recurrent_kernel, f"H, {wide}", (max(hidden, 1), rows))
    kernel = check_array("kernel", kernel, f"I, {wide}", (None, rows))
    if cell == GRU:
        return _gru_cell(configured, kernel, recurrent_kernel, bias)
    if bias is None:
        return one_bias(kernel.T, recurrent_kernel.T, None)
    if cell == LSTM and np.shape(bias) == (8 * hidden,):
        return _cudnn_cell(kernel, recurrent_kernel, check_array("bias", bias, "8H", (8 * hidden,)))
    return one_bias(kernel.T, recurrent_kernel.T, check_array("bias", bias, wide, (rows,)))


def _gru_cell(configured: bool, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: Any) -> CellParams:
    """With `reset_after=True`, when there are two biases."""
    rows = recurrent_kernel.shape[1]
    if bias is None and not configured:
        raise ValueError(
            "bias: absent, and nothing else tells whether this GRU has reset_after. Give the layer itself."
        )
    if bias is not None and np.shape(bias) == (rows,):
        raise ValueError(
            f"bias: expected [2, 3H] = [2, {rows}], as with reset_after=True, got [{rows}]: the reset gate before the "
            "product, (r * h) U_h, which no rule of two products can be."
        )
    both = (None, None) if bias is None else check_array("bias", bias, "2, 3H", (2, rows))
    weights = (reorder(weight.T, FROM_ZRH) for weight in (kernel, recurrent_kernel))
    return cell_params(*weights, *(None if b is None else reorder(b, FROM_ZRH) for b in both))


def _cudnn_cell(kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray) -> CellParams:
    """CuDNNLSTM's arrays have Keras's shapes but hold, gate by gate, cuDNN's `[H, I]` and `[H, H]`, which are ours."""
    hidden = len(recurrent_kernel)
    weight_ih = [gate.reshape(hidden, -1) for gate in np.split(kernel, 4, axis=1)]
    weight_hh = np.split(recurrent_kernel, 4, axis=1)
    return cell_params(np.concatenate(weight_ih), np.concatenate(weight_hh), *np.split(bias, 2))
