"""Any file of weights, by its ending: the LSTMs, GRUs and RNNs that it holds, and how one is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxlstm._types import CellParams, LSTMParams
from jaxlstm.interop import _keras_file, _keras_save, _onnx, _onnx_export, _safetensors, _state_dict
from jaxlstm.interop._cells import reading
from jaxlstm.interop._found import Found


class Format(NamedTuple):
    """One kind of file: how to find the LSTMs in one, how to write one, and what its LSTMs are chosen by."""

    find: Callable[[str | os.PathLike], dict[str, Found]]
    save: Callable[[Any, str | os.PathLike], None]
    chosen_by: str
    dtype: str | None = None
    """What it is written in; None for any."""


_PT = Format(_state_dict.find_torch, _state_dict.save_torch, "prefix")
_KERAS = Format(_keras_file.find_keras, _keras_save.save_keras, "node", "float32")
FORMATS = {
    ".pt": _PT,
    ".pth": _PT,
    ".pth.tar": _PT,
    ".ckpt": _PT,
    ".bin": _PT,
    ".safetensors": Format(_state_dict.find_safetensors, _safetensors.save_safetensors, "prefix"),
    ".npz": Format(_state_dict.find_npz, _state_dict.save_npz, "prefix"),
    ".onnx": Format(_onnx.find_onnx, _onnx_export.to_onnx, "node", "float32"),
    ".h5": _KERAS,
    ".hdf5": _KERAS,
    ".keras": _KERAS,
}


def format_of(path: str | os.PathLike) -> Format:
    """The format that a file's ending names.

    Raises:
        ValueError: another ending.
    """
    name = Path(path).name.lower()
    for ending, chosen in FORMATS.items():
        if name.endswith(ending):
            return chosen
    raise ValueError(f"{os.fspath(path)}: expected a name that ends in one of {', '.join(FORMATS)}.")


def find(path: str | os.PathLike) -> dict[str, Found]:
    """The LSTMs of a file by name.

    Raises:
        OSError: no such file, or one that may not be read.
        ValueError: another ending; a file that is broken, or is not what its name says. So do the LSTMs, when they are
            read. The message names the file, and the key if there is one.
        ImportError: a library that the format needs is missing.
    """
    source, finder = os.fspath(path), format_of(path).find
    os.stat(source)  # Before a library is asked for, which would not help.
    with reading(source):
        found = finder(path)

    def read(each: Found) -> LSTMParams | CellParams:
        with reading(source):
            return each.params()

    return {name: each._replace(params=lambda each=each: read(each)) for name, each in found.items()}


def save(params: LSTMParams | CellParams, path: str | os.PathLike) -> None:
    """Write parameters in the format that the ending names; the file appears whole or not at all.

    Raises:
        OSError: a place that can't be written.
        ValueError: another ending; parameters that the format can't hold.
        ImportError: a library that the format needs is missing.
    """
    chosen = format_of(path)
    # Only PyTorch's names know a cell from a stack of one.
    if isinstance(params, CellParams) and chosen.chosen_by == "node":
        params = ((params,),)
    chosen.save(params, path)
