"""The equations of Keras's recurrent layers: which variant a layer is, as a `Cell`, or that it is PyTorch's.

Source: https://keras.io/api/layers/activations
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm import cells
from jaxlstm._types import Cell
from jaxlstm.interop._keras_config import Layer
from jaxlstm.interop._variants import gru, rnn

_PYTORCHS = {"activation": "tanh", "recurrent_activation": "sigmoid"}


def _exact_gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def _leaky_relu(x: jax.Array) -> jax.Array:
    return jax.nn.leaky_relu(x, 0.2)


def _linear(x: jax.Array) -> jax.Array:
    return x


def _tanh_shrink(x: jax.Array) -> jax.Array:
    return x - jnp.tanh(x)


def _hard_shrink(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) > 0.5, x, jnp.zeros_like(x))


def _soft_shrink(x: jax.Array) -> jax.Array:
    return jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0)


def _steep_hard_sigmoid(x: jax.Array) -> jax.Array:
    """Keras 2's; Keras 3 has a slope of 1/6."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


_ACTIVATIONS: dict[str, Callable] = {
    "celu": jax.nn.celu,
    "elu": jax.nn.elu,
    "exponential": jnp.exp,
    "gelu": _exact_gelu,
    "hard_shrink": _hard_shrink,
    "hard_silu": jax.nn.hard_silu,
    "hard_swish": jax.nn.hard_silu,
    "hard_tanh": jax.nn.hard_tanh,
    "leaky_relu": _leaky_relu,
    "linear": _linear,
    "log_sigmoid": jax.nn.log_sigmoid,
    "log_softmax": jax.nn.log_softmax,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "soft_shrink": _soft_shrink,
    "softmax": jax.nn.softmax,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "sparse_plus": jax.nn.sparse_plus,
    "sparse_sigmoid": jax.nn.sparse_sigmoid,
    "squareplus": jax.nn.squareplus,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
    "tanh_shrink": _tanh_shrink,
}


def cell_of(layer: Layer, version: str | None) -> Cell:
    """The cell that a layer of some version of Keras runs; equal layers have equal cells."""
    _refuse_wrong(layer)
    of_each = {(layer.kind, *(_activation(way.config, key, version) for key in _PYTORCHS)) for way in layer.ways}
    if len(of_each) > 1:
        raise ValueError(
            "activation: expected the same in both directions, which run by one rule. Give its two layers one by one."
        )
    ((kind, activation, recurrent),) = of_each
    if kind == "GRU":
        return gru(recurrent, activation)
    if kind == "RNN":
        return rnn(activation)
    return cells.lstm(gate_activation=recurrent, cell_activation=activation, output_activation=activation)


def refuse_other_equations(layer: Layer, version: str | None) -> None:  # noqa: ARG001
    """Only a layer whose equations are PyTorch's passes."""
    _refuse_wrong(layer)
    for way in layer.ways:
        for key, expected in _PYTORCHS.items():
            if way.config.get(key, expected) != expected:
                raise ValueError(
                    f"{key}: expected {expected!r}, as PyTorch's, got {way.config[key]!r}. from_keras_cell reads it."
                )


def _refuse_wrong(layer: Layer) -> None:
    if layer.wrong:
        raise ValueError(layer.wrong)
    # Configurations older than the setting are of GRUs that had no other way.
    if layer.kind == "GRU" and not all(way.config.get("reset_after", False) for way in layer.ways):
        raise ValueError(
            "reset_after: expected True, the reset gate after the product, r * (h U_h), as in PyTorch; this layer has "
            "it before, (r * h) U_h, which no rule of two products can be."
        )


def _activation(config: Any, key: str, version: str | None) -> Callable:
    name = config.get(key, _PYTORCHS[key])
    if name == "hard_sigmoid":
        if version is None:
            raise ValueError(
                f"{key}: 'hard_sigmoid' is one in Keras 2 and another in Keras 3, and nothing tells which."
            )
        return _steep_hard_sigmoid if int(version.partition(".")[0]) < 3 else jax.nn.hard_sigmoid
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise ValueError(f"{key}: expected one of {', '.join(sorted([*_ACTIVATIONS, 'hard_sigmoid']))}, got {name!r}.")
    return _ACTIVATIONS[name]
