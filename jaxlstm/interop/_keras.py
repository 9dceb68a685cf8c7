"""Keras's LSTM layers, in and out.

Keras keeps `kernel [I, 4H]`, `recurrent_kernel [H, 4H]` and one `bias [4H]`, gates in the order i, f, c, o (PyTorch's g
is Keras's c). The forget bias of 1 that it starts from is part of the bias.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.interop._cells import in_jax, reading, stacked, summed_bias, unprojected
from jaxlstm.interop._found import pick
from jaxlstm.interop._keras_file import find_keras
from jaxlstm.interop._keras_layer import cells_of


def from_keras(weights: Any, name: str | Sequence[str] | None = None) -> LSTMParams:
    """Parameters from Keras 2 or 3.

    Args:
        weights: one layer, a list over layers, or a file.
            One layer is an `LSTM`, a `Bidirectional` of one, an `LSTMCell`, or what its `get_weights()` gives: kernel
            `[I, 4H]`, recurrent kernel `[H, 4H]` and, with `use_bias`, bias `[4H]`; `Bidirectional` has as many again.
            Weights of the old `CuDNNLSTM`, with its kernels laid out otherwise, are known by their bias `[8H]`.
            A file is the path of a `.h5`, `.weights.h5` or `.keras`: no code in it is run, and Keras is not needed. But
            libhdf5, which parses it, can hang on a file made to do harm: read those of strangers in a process apart, as
            `jaxlstm inspect` and `jaxlstm convert` do.
        name: which layer of a file; several names make a stack. None for its only LSTM, or its only stack in a
            `Sequential`. A `.weights.h5` of Keras 2.12 to 3.3 has no layers' names, but groups named by class: lstm,
            lstm_1, ...

    A class of one's own that extends `LSTM` is taken at its configuration's word; a `.weights.h5` has none, and its
    layers are taken for plain ones.

    Returns:
        `LSTMParams`; Keras's one bias is `bias_ih`, and `bias_hh` is zero. A layer with `go_backwards` comes as one
        direction: run it on x flipped in time.

    Raises:
        OSError: no such file, or one that may not be read.
        ValueError: arrays of other shapes or not floating; activations other than tanh and sigmoid or a `merge_mode`
            other than "concat", where a layer or its file tells; no LSTM by that name, or several and none chosen; in a
            file, weights that are not finite, arrays that its configuration does not promise, or a configuration that
            does not tell their equations. The message names file and array.
        ImportError: a file, and h5py is missing.

    Source: https://keras.io/api/layers/recurrent_layers/lstm

    >>> import numpy as np, jax.numpy as jnp, jaxlstm
    >>> weights = [np.ones((3, 20), np.float32), np.ones((5, 20), np.float32), np.ones(20, np.float32)]
    >>> params = jaxlstm.interop.from_keras(weights)  # or layer, or [layer_0, layer_1], or "model.keras"
    >>> output, state = jaxlstm.lstm(params, jnp.ones((2, 7, 3)), batch_first=True)
    """
    if isinstance(weights, str | os.PathLike):
        with reading(os.fspath(weights)):
            found = find_keras(weights)
            names = [name] if name is None or isinstance(name, str) else name
            return in_jax(stacked(layer for each in names for layer in pick(found, each, "name").params()))
    if name is not None:
        raise ValueError("name: picks a layer of a file; weights is none.")
    several = isinstance(weights, list | tuple) and weights and not hasattr(weights[0], "shape")
    with reading("weights"):
        return in_jax(stacked(cells_of(layer) for layer in (weights if several else [weights])))


def to_keras(params: LSTMParams) -> list[list[np.ndarray]]:
    """Weights for Keras's layers.

    Args:
        params: of a stack.

    Returns:
        A list over layers, each what `set_weights` of an `LSTM` (one direction) or of a `Bidirectional` (two) takes:
        kernel `[I, 4H]`, recurrent kernel `[H, 4H]`, bias `[4H]`, the sum of the two biases, if there are any.

    Raises:
        ValueError: a projection, which Keras has not; parameters that `jaxlstm.lstm` would refuse.
        TypeError: parameters that are no stack.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> [array.shape for array in jaxlstm.interop.to_keras(params)[0]]
    [(3, 20), (5, 20), (20,)]

    In Keras: `for layer, weights in zip(model.layers, to_keras(params)): layer.set_weights(weights)`.
    """
    return [[array for cell in cells for array in _arrays(cell)] for cells in unprojected(params, "Keras")]


def _arrays(cell: LSTMCellParams) -> list[np.ndarray]:
    bias = summed_bias(cell)
    return [np.array(cell.weight_ih.T), np.array(cell.weight_hh.T), *([] if bias is None else [bias])]
