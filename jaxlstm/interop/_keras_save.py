"""A stack as a Keras model in a file, written by Keras."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from jaxlstm._check_cell import check_params
from jaxlstm._types import LSTMParams
from jaxlstm._write import replacing
from jaxlstm.interop._cells import need, single_precision
from jaxlstm.interop._keras import to_keras


def save_keras(params: LSTMParams, path: str | os.PathLike) -> None:
    """Write a `Sequential` of `LSTM` or `Bidirectional` layers that return sequences: `[B, T, I]` to `[B, T, D*H]`."""
    # Keras would look for TensorFlow first; JAX is what is sure to be here.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = need("keras", "keras", "a Keras file")
    weights = to_keras(single_precision(params, "Keras in its default precision"))
    sizes = check_params(params)

    def layer(k: int):
        lstm = keras.layers.LSTM(
            sizes.hidden_size, use_bias=params[0][0].bias_ih is not None, return_sequences=True, name=f"lstm_l{k}"
        )
        return lstm if sizes.num_directions == 1 else keras.layers.Bidirectional(lstm, name=f"lstm_l{k}")

    model = keras.Sequential([keras.Input((None, sizes.input_size)), *map(layer, range(sizes.num_layers))])
    model.set_weights([array for arrays in weights for array in arrays])
    with replacing(path) as temporary, _without_advice():
        model.save(temporary)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keras warns in a log that HDF5 is its older format, to whoever asked for it."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
