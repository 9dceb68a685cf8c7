"""One of Keras's LSTM layers as the cells of its directions: from its arrays, and what its configuration must be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlstm._types import LSTMCellParams
from jaxlstm.interop._cells import cell_of, check_array, one_bias


def cells_of(layer: Any) -> list[LSTMCellParams]:
    """The directions of a layer, or of what its `get_weights()` gives."""
    if hasattr(layer, "get_weights"):
        check_config(layer.get_config())
        layer = layer.get_weights()
    return cells_of_arrays(layer)


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


def check_config(config: Mapping[str, Any]) -> bool:
    """Refuse a layer of other equations; whether it runs in reverse only."""
    if "merge_mode" in config:
        if config["merge_mode"] != "concat":
            raise ValueError(f"merge_mode: expected 'concat', as PyTorch's, got {config['merge_mode']!r}.")
        if check_config(config["layer"]["config"]):
            raise ValueError("go_backwards: the forward layer of a Bidirectional must run forward.")
        if config.get("backward_layer"):
            check_config(config["backward_layer"]["config"])
        return False
    if "layers" in config:
        raise ValueError("a whole model: give its LSTM layers, from_keras([layer, ...]).")
    if "cells" in config:
        raise ValueError("a stack of cells: give them as a list over layers, from_keras(list(layer.cell.cells)).")
    if "cell" in config:
        check_config(config["cell"]["config"])
    for key, expected in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if config.get(key, expected) != expected:
            raise ValueError(f"{key}: expected {expected!r}, as PyTorch's, got {config[key]!r}.")
    return bool(config.get("go_backwards"))
