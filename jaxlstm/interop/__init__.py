"""Weights in and out: one function a way and a system; each needs only what its format needs.

- PyTorch:        `from_torch`, `to_torch`
- safetensors:    `load_safetensors`, `save_safetensors`
- ONNX:           `from_onnx`, `to_onnx`; `from_onnx_cell` for other cells than PyTorch's
- Keras:          `from_keras`, `to_keras`; `from_keras_cell` for other cells than PyTorch's
- Flax:           `from_flax`, `to_flax`
- Haiku:          `from_haiku`
- Equinox:        `from_equinox`

What jaxlstm's own modules hold goes by `jaxlstm.from_named_parameters` and back.
"""

from jaxlstm.interop._equinox import from_equinox as from_equinox
from jaxlstm.interop._flax import from_flax as from_flax
from jaxlstm.interop._flax import to_flax as to_flax
from jaxlstm.interop._haiku import from_haiku as from_haiku
from jaxlstm.interop._keras import from_keras as from_keras
from jaxlstm.interop._keras import from_keras_cell as from_keras_cell
from jaxlstm.interop._keras import to_keras as to_keras
from jaxlstm.interop._onnx import from_onnx as from_onnx
from jaxlstm.interop._onnx import from_onnx_cell as from_onnx_cell
from jaxlstm.interop._onnx_export import to_onnx as to_onnx
from jaxlstm.interop._safetensors import load_safetensors as load_safetensors
from jaxlstm.interop._safetensors import save_safetensors as save_safetensors
from jaxlstm.interop._torch import from_torch as from_torch
from jaxlstm.interop._torch import to_torch as to_torch

__all__ = [
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_keras_cell",
    "from_onnx",
    "from_onnx_cell",
    "from_torch",
    "load_safetensors",
    "save_safetensors",
    "to_flax",
    "to_keras",
    "to_onnx",
    "to_torch",
]


def __dir__() -> list[str]:
    return __all__
