"""Weights in and out: one file per system; each needs only what its format needs."""

from jaxlstm.interop._safetensors import load_safetensors as load_safetensors
from jaxlstm.interop._safetensors import save_safetensors as save_safetensors
from jaxlstm.interop._torch import from_torch as from_torch
from jaxlstm.interop._torch import to_torch as to_torch
