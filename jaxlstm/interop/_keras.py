"""Keras's LSTM, GRU and SimpleRNN layers, in and out.

Keras keeps `kernel [I, 4H]`, `recurrent_kernel [H, 4H]` and one `bias [4H]`, gates in the order i, f, c, o (PyTorch's g
is Keras's c). The forget bias of 1 that it starts from is part of the bias. A GRU has `3H` columns, gates z, r, h
(PyTorch's n), and, with `reset_after=True`, a bias `[2, 3H]`; a SimpleRNN has `H` columns.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxlstm._types import Cell, CellParams, LSTMParams
from jaxlstm.cells import GRU
from jaxlstm.interop._cells import cell_of_params, check_unprojected, in_jax, reading, reorder, stacked, summed_bias
from jaxlstm.interop._found import Found, one_cell, pick, with_cell
from jaxlstm.interop._keras_cell import cell_of, refuse_other_equations
from jaxlstm.interop._keras_config import Layer
from jaxlstm.interop._keras_file import find_keras
from jaxlstm.interop._keras_layer import TO_ZRH, cells_of


def from_keras(weights: Any, name: str | Sequence[str] | None = None) -> LSTMParams:
    """Parameters from Keras 2 or 3.

    Args:
        weights: one layer, a list over layers, or a file.
            One layer is an `LSTM`, `GRU` or `SimpleRNN`, a `Bidirectional` of one, a cell of theirs, or what its
            `get_weights()` gives: kernel `[I, 4H]`, recurrent kernel `[H, 4H]` and, with `use_bias`, bias `[4H]`;
            `Bidirectional` has as many again. Weights of the old `CuDNNLSTM`, with its kernels laid out otherwise, are
            known by their bias `[8H]`.
            A file is the path of a `.h5`, `.weights.h5` or `.keras`: no code in it is run, and Keras is not needed. But
            libhdf5, which parses it, can hang on a file made to do harm: read those of strangers in a process apart, as
            `jaxlstm inspect` and `jaxlstm convert` do.
        name: which layer of a file; several names make a stack. None for its only LSTM, or its only stack in a
            `Sequential`; where there is no LSTM, for its only GRU, or SimpleRNN. A `.weights.h5` of Keras 2.12 to 3.3
            has no layers' names, but groups named by class: lstm, lstm_1, ...

    A class of one's own that extends `LSTM` is taken at its configuration's word; a `.weights.h5` has none, and its
    layers are taken for plain ones.

    Returns:
        `LSTMParams`; rows of 4H are an LSTM's, 3H a GRU's, for `jaxlstm.gru`, H a SimpleRNN's, for `jaxlstm.fold` of
        `cells.RNN`. Keras's one bias is `bias_ih`, and `bias_hh` is zero; a GRU has both. A layer with `go_backwards`
        comes as one direction: run it on x flipped in time.

    Raises:
        OSError: no such file, or one that may not be read.
        ValueError: arrays of other shapes or not floating; activations other than tanh and sigmoid (which
            `from_keras_cell` reads), a `merge_mode` other than "concat" or a GRU without `reset_after`, where a layer
            or its file tells; a GRU's arrays without bias, which don't tell; no LSTM by that name, or several and none
            chosen; in a file, weights that are not finite, arrays that its configuration does not promise, or a
            configuration that does not tell their equations. The message names file and array.
        ImportError: a file, and h5py is missing.

    Source: https://keras.io/api/layers/recurrent_layers/lstm

    >>> import numpy as np, jax.numpy as jnp, jaxlstm
    >>> weights = [np.ones((3, 20), np.float32), np.ones((5, 20), np.float32), np.ones(20, np.float32)]
    >>> params = jaxlstm.interop.from_keras(weights)  # or layer, or [layer_0, layer_1], or "model.keras"
    >>> output, state = jaxlstm.lstm(params, jnp.ones((2, 7, 3)), batch_first=True)
    """
    return in_jax(_read(weights, name, refuse_other_equations, lambda each: (None, each.params()))[1])


def from_keras_cell(weights: Any, name: str | Sequence[str] | None = None) -> tuple[Cell, LSTMParams]:
    """The cell and the parameters of Keras's recurrent layers, whatever their activations.

    As `from_keras`, and for the layers that it refuses for their `activation` or `recurrent_activation`.

    Args:
        weights: as `from_keras`'s. Only a layer, and a file with a configuration, tell activations: mere arrays are
            taken for PyTorch's cell.
        name: as `from_keras`'s.

    Returns:
        `(cell, params)` for `jaxlstm.fold`. The cell is `cells.LSTM`, `cells.GRU` or `cells.RNN` where it is PyTorch's,
        and one as `cells.lstm` makes them where it is not; equal layers give equal cells.

    Raises:
        OSError, ImportError: as `from_keras`.
        ValueError: as `from_keras`, but for what it refuses activations for; an activation that is none of Keras's own
            by name, or works on more than numbers one by one or a row; layers, or directions, of different equations.

    Source: https://keras.io/api/layers/activations

    >>> import numpy as np, jax.numpy as jnp, jaxlstm
    >>> weights = [np.ones((3, 15), np.float32), np.ones((5, 15), np.float32), np.ones((2, 15), np.float32)]
    >>> cell, params = jaxlstm.interop.from_keras_cell(weights)  # or layer, or [layer_0, layer_1], or "model.keras"
    >>> cell == jaxlstm.cells.GRU
    True
    >>> output, state = jaxlstm.fold(cell, params, jnp.ones((2, 7, 3)), batch_first=True)
    """
    cells, params = _read(weights, name, cell_of, with_cell)
    with reading(os.fspath(weights) if isinstance(weights, str | os.PathLike) else "weights"):
        return one_cell(cells), in_jax(params)


def _read(
    weights: Any,
    name: str | Sequence[str] | None,
    equations: Callable[[Layer, str | None], Any],
    of_file: Callable[[Found], tuple[Any, LSTMParams]],
) -> tuple[list[Any], LSTMParams]:
    """What `equations`, or `of_file`, makes of each layer, and the stack of them."""
    if isinstance(weights, str | os.PathLike):
        with reading(os.fspath(weights)):
            found = find_keras(weights)
            names = [name] if name is None or isinstance(name, str) else name
            read = [of_file(pick(found, each, "name")) for each in names]
            return [cell for cell, _ in read], stacked(layer for _, params in read for layer in params)
    if name is not None:
        raise ValueError("name: picks a layer of a file; weights is none.")
    several = isinstance(weights, list | tuple) and weights and not hasattr(weights[0], "shape")
    with reading("weights"):
        read = [cells_of(layer, equations) for layer in (weights if several else [weights])]
        return [cell for cell, _ in read], stacked(cells for _, cells in read)


def to_keras(params: LSTMParams) -> list[list[np.ndarray]]:
    """Weights for Keras's layers.

    Args:
        params: of a stack.

    Returns:
        A list over layers, each what `set_weights` of an `LSTM`, `GRU` or `SimpleRNN` (one direction) or of a
        `Bidirectional` (two) takes: kernel `[I, 4H]`, recurrent kernel `[H, 4H]`, bias `[4H]`, the sum of the two
        biases, if there are any; a GRU has `3H` columns and both biases, `[2, 3H]`, a SimpleRNN `H` columns.

    Raises:
        ValueError: a projection, which Keras has not; parameters that do not fit together.
        TypeError: parameters that are no stack.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> [array.shape for array in jaxlstm.interop.to_keras(params)[0]]
    [(3, 20), (5, 20), (20,)]

    In Keras: `for layer, weights in zip(model.layers, to_keras(params)): layer.set_weights(weights)`.
    """
    return [[array for cell in cells for array in _arrays(cell)] for cells in check_unprojected(params, "Keras")]


def _arrays(cell: CellParams) -> list[np.ndarray]:
    if cell_of_params(cell) == GRU:
        kernel, recurrent_kernel, *biases = (reorder(leaf, TO_ZRH) for leaf in cell[:4] if leaf is not None)
        return [kernel.T.copy(), recurrent_kernel.T.copy(), *([np.stack(biases)] if biases else [])]
    bias = summed_bias(cell)
    return [np.array(cell.weight_ih.T), np.array(cell.weight_hh.T), *([] if bias is None else [bias])]
