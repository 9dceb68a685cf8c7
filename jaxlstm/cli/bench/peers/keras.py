"""Keras's `LSTM` on its JAX backend, `Bidirectional` around it, layers in a row; batch-major."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras

from jaxlstm._types import LSTMParams
from jaxlstm.cli.bench._work import Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias


def _model(work: Work) -> keras.Model:
    shape = work.shape
    keras.config.set_floatx(work.dtype)
    keras.config.set_dtype_policy(work.dtype)
    start = y = keras.Input((shape.time, shape.input), batch_size=shape.batch)
    h, c = [], []
    for _ in range(shape.layers):
        # The weights are ours; Keras's own, orthogonal, can't be drawn in 16 bits.
        layer = keras.layers.LSTM(shape.hidden, return_sequences=True, return_state=True, recurrent_initializer="zeros")
        if shape.directions == 2:
            layer = keras.layers.Bidirectional(layer)
        y, *states = layer(y)
        h += states[::2]
        c += states[1::2]
    return keras.Model(start, (y, (h, c)))


def load(weights: LSTMParams) -> list[jax.Array]:
    """Kernels transposed, gates in PyTorch's order, one bias."""
    return [
        array
        for cells in weights
        for params in cells
        for array in (params.weight_ih.T, params.weight_hh.T, bias(params))
    ]


def runner(work: Work) -> JaxRunner:
    """The stateless form, as Keras's own trainer on JAX calls it."""
    model = _model(work)
    others = [variable.value for variable in model.non_trainable_variables]

    def apply(params: list[jax.Array], x: jax.Array) -> tuple[jax.Array, States]:
        return model.stateless_call(params, others, x)[0]

    return JaxRunner(work, load, apply, batch_first=True)
