"""Files of arrays under PyTorch's names: `.pt` and `.pth`, `.safetensors`, `.npz`. Read as data, and written."""

import io
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np
import safetensors

from jaxlstm._names import NAME, flatten
from jaxlstm._types import CellParams, LSTMParams
from jaxlstm._write import replacing
from jaxlstm.cells import LSTM
from jaxlstm.interop._cells import cell_of_shape, check_finite, file_size, kind_of, need, reading
from jaxlstm.interop._found import Found
from jaxlstm.interop._reparametrized import explicit
from jaxlstm.interop._torch import from_leaves, to_torch
from jaxlstm.interop._zip import SLACK, check_sums, open_zip

_NAME = re.compile(rf"(|.*\.){NAME}")
_PART = re.compile(r"[^.]*\.")
_UNKNOWN_NONLINEARITY = "nothing tells its nonlinearity, which is taken for tanh"
_MOST_ENTRIES, _LONGEST_NAME = 100_000, 1000


def find_torch(path: str | os.PathLike) -> dict[str, Found]:
    """The LSTMs of a checkpoint, in dictionaries at any depth. No code in it is run."""
    torch = need("torch", "a PyTorch checkpoint", "torch")
    size = file_size(path)
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ValueError(
                    "a TorchScript program, whose weights can't be had without its code. Run it yourself if you trust "
                    'it: torch.save(torch.jit.load(path).state_dict(), "weights.pt").'
                )
            check_sums(archive)
    with open(path, "rb") as file:
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            # Not torch's own words: they say how to run the code in the file.
            raise ValueError(
                "not read: it is broken, or holds more than tensors and plain containers, which would run code. "
                "Where it was made: torch.save(model.state_dict(), path)."
            ) from error
    leaves = dict(_leaves(torch, checkpoint))

    def read(keys: list[str]) -> dict[str, Any]:
        # Views may repeat a few values without end, and are small until they are copied.
        bytes_left = size + SLACK
        for key in keys:
            bytes_left -= leaves[key].numel() * leaves[key].element_size()
            if bytes_left < 0:
                raise ValueError(f"{key}: claims {list(leaves[key].shape)}, which is more than the file holds.")
        return {key: leaves[key] for key in keys}

    return _found({key: tuple(tensor.shape) for key, tensor in leaves.items()}, read)


def find_safetensors(path: str | os.PathLike) -> dict[str, Found]:
    """The LSTMs of a safetensors file."""
    file_size(path)
    file = safetensors.safe_open(path, framework="np").__enter__()  # Open while its LSTMs may still be read.
    shapes = {key: tuple(file.get_slice(key).get_shape()) for key in sorted(file.keys())}
    return _found(shapes, lambda keys: {key: file.get_tensor(key) for key in keys})


def find_npz(path: str | os.PathLike) -> dict[str, Found]:
    """The LSTMs of an npz file."""
    file_size(path)
    with open_zip(path) as archive:
        arrays = {name.removesuffix(".npy"): _npy(name, archive.read(name)) for name in archive.namelist()}
    return _found({key: array.shape for key, array in arrays.items()}, lambda keys: {key: arrays[key] for key in keys})


def save_torch(params: LSTMParams | CellParams, path: str | os.PathLike) -> None:
    """Write a `state_dict`, which `torch.load(path, weights_only=True)` reads."""
    torch = need("torch", "a PyTorch checkpoint", "torch")

    def tensor(array: np.ndarray) -> Any:
        if array.dtype == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    with replacing(path) as temporary:
        torch.save({name: tensor(array) for name, array in to_torch(params).items()}, temporary)


def save_npz(params: LSTMParams | CellParams, path: str | os.PathLike) -> None:
    """Write an npz file."""
    arrays = to_torch(params)
    for name, array in arrays.items():
        if array.dtype == "bfloat16":
            raise ValueError(f"{name}: bfloat16, which npz files have not. Write a .safetensors.")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]: no array is called allow_pickle


def _leaves(torch: Any, checkpoint: Any) -> Iterator[tuple[str, Any]]:
    """All tensors in nested dictionaries, by their keys joined with dots."""
    pending, seen = [("", checkpoint)], 0
    while pending:
        prefix, node = pending.pop()
        for key, value in node.items() if isinstance(node, Mapping) else ():
            seen += 1
            name = f"{prefix}{key}" if isinstance(key, str | int) else f"{prefix}?"
            if seen > _MOST_ENTRIES or len(name) > _LONGEST_NAME:
                raise ValueError(f"more than {_MOST_ENTRIES} entries, or dictionaries that hold each other.")
            if isinstance(value, torch.Tensor):
                yield name, value
            else:
                pending.append((f"{name}.", value))


def _npy(name: str, data: bytes) -> np.ndarray:
    """An array whose header tells the truth of the bytes behind it; objects, which would run code, are refused."""
    with reading(name):
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
            raise ValueError(f"claims {list(shape)} of {dtype}, got {len(data) - file.tell()} bytes.")
        return np.load(io.BytesIO(data), allow_pickle=False)


def _found(shapes: Mapping[str, tuple[int, ...]], read: Callable[[list[str]], Mapping[str, Any]]) -> dict[str, Found]:
    """The LSTMs, GRUs and RNNs among keys by their prefix."""
    matches = (_NAME.fullmatch(key) for key in explicit(shapes))
    below: dict[str, list[str]] = {match[1]: [] for match in matches if match}
    for key in shapes:
        # At the top level, names with dots are other layers'.
        for prefix in accumulate(part for part in _PART.findall(key)) if "." in key else [""]:
            if prefix in below:
                below[prefix].append(key)
    return {
        prefix.removesuffix("."): Found(
            lambda prefix=prefix, keys=keys: _params(prefix, keys, read),
            kind=(kind := _kind(shapes, prefix)),
            note=_UNKNOWN_NONLINEARITY if kind == "RNN" else "",
        )
        for prefix, keys in below.items()
    }


def _kind(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> str:
    """What weight_hh and weight_hr tell; an LSTM where they tell nothing, for whoever reads it to refuse."""
    weight_hh, weight_hr = (
        shapes.get(f"{prefix}{f}_l0", shapes.get(f"{prefix}{f}")) for f in ("weight_hh", "weight_hr")
    )
    return kind_of(cell_of_shape(weight_hh or (), weight_hr or None) or LSTM)


def _params(prefix: str, keys: list[str], read: Callable[[list[str]], Mapping[str, Any]]) -> Any:
    params = from_leaves(read(keys), prefix)
    for name, leaf in flatten(params).items():
        check_finite(prefix + name, np.asarray(leaf))
    return params
