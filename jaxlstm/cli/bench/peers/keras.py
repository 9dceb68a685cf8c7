"""Keras's `LSTM` or `GRU` on its JAX backend, `Bidirectional` around it, layers in a row; batch-major."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli.bench._work import Work
from jaxlstm.cli.bench.peers._jax import JaxRunner, States, bias, reordered


def _model(work: Work) -> keras.Model:
    shape = work.shape
    keras.config.set_floatx(work.dtype)
    keras.config.set_dtype_policy(work.dtype)
    start = y = keras.Input((shape.time, shape.input), batch_size=shape.batch)
    kind, finals = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[work.cell], []
    for _ in range(shape.layers):
        # The weights are ours; Keras's own, orthogonal, can't be drawn in 16 bits.
        layer = kind(shape.hidden, return_sequences=True, return_state=True, recurrent_initializer="zeros")
        if shape.directions == 2:
            layer = keras.layers.Bidirectional(layer)
        y, *states = layer(y)
        finals += states
    fields = 2 if work.cell == "lstm" else 1
    return keras.Model(start, (y, tuple(finals[k::fields] for k in range(fields))))


def load(weights: LSTMParams) -> list[jax.Array]:
    """Kernels transposed, an LSTM's gates in PyTorch's order and one bias, a GRU's in the order z, r, n and two."""

    def arrays(params: LSTMCellParams) -> tuple[jax.Array, ...]:
        rows, hidden_size = params.weight_hh.shape
        if rows == 4 * hidden_size:
            return params.weight_ih.T, params.weight_hh.T, bias(params)
        w_ih, w_hh, b_ih, b_hh = (reordered(a, "zrn", "rzn") for a in params[:4] if a is not None)
        return w_ih.T, w_hh.T, jnp.stack([b_ih, b_hh])

    return [array for cells in weights for params in cells for array in arrays(params)]


def runner(work: Work) -> JaxRunner:
    """The stateless form, as Keras's own trainer on JAX calls it."""
    model = _model(work)
    others = [variable.value for variable in model.non_trainable_variables]

    def apply(params: list[jax.Array], x: jax.Array) -> tuple[jax.Array, States]:
        return model.stateless_call(params, others, x)[0]

    return JaxRunner(work, load, apply, batch_first=True)
