"""A stack as a Keras model in a file, written by Keras."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from jaxlstm._types import LSTMParams
from jaxlstm._write import replacing
from jaxlstm.interop._cells import cell_of_params, check, kind_of, need, single_precision
from jaxlstm.interop._keras import to_keras


def save_keras(params: LSTMParams, path: str | os.PathLike) -> None:
    """Write a `Sequential` of layers, each alone or in a `Bidirectional`, from `[B, T, I]` to `[B, T, D*H]`."""
    # Keras would look for TensorFlow first; JAX is what is sure to be here.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = need("keras", "a Keras file", "'jaxlstm[keras]'")
    weights = to_keras(single_precision(params, "Keras in its default precision"))
    sizes, kind = check(params), kind_of(cell_of_params(params))
    of_kind = {"LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU, "RNN": keras.layers.SimpleRNN}[kind]
    use_bias = params[0][0].bias_ih is not None

    def layer(k: int):
        name = f"{kind.lower()}_l{k}"
        one = of_kind(sizes.hidden_size, use_bias=use_bias, return_sequences=True, name=name)
        return one if sizes.num_directions == 1 else keras.layers.Bidirectional(one, name=name)

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
