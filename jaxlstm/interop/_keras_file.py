"""Keras's files, read as data and never run: HDF5 (`.h5`, `.weights.h5`) and the zip around one (`.keras`)."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxlstm._types import LSTMParams
from jaxlstm.interop._cells import check_finite, need, reading, stacked
from jaxlstm.interop._found import Found
from jaxlstm.interop._keras_layer import cells_of_arrays, check_config
from jaxlstm.interop._zip import open_zip

_NAMED = ("kernel", "recurrent_kernel", "bias")
_NUMBERED = ("0", "1", "2")
_LAYERS = ("LSTM", "CuDNNLSTM", "Bidirectional", "RNN")


def find_keras(path: str | os.PathLike) -> dict[str, Found]:
    """The LSTM layers of a file by name; by path in the file, where two have the same name."""
    h5py = need("h5py", "h5py", "a Keras file")
    source: Any = path
    config: Any = None
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
            config = archive.read("config.json")
    with h5py.File(source, "r") as file:
        layers = _layers(h5py, file)
        config = config or file.attrs.get("model_config", "null")
    configs = list(_configs(json.loads(config)))

    names = [layer.name for layer in layers]
    found = {}
    for layer in layers:
        name = layer.name if names.count(layer.name) == 1 else layer.path
        own = [config for config in configs if config.get("name") == layer.name]
        found[name] = _found(name, layer.arrays, own)
    return found


class _Layer(NamedTuple):
    name: str
    path: str
    arrays: dict[str, np.ndarray]
    """By path in the file: the forward direction's in Keras's order, then the reverse's."""


def _found(name: str, arrays: dict[str, np.ndarray], configs: list[dict]) -> Found:
    def read() -> LSTMParams:
        with reading(f"layer {name!r}"):
            for config in configs:
                check_config(config)
            params = stacked([cells_of_arrays(list(arrays.values()))])
            for key, array in arrays.items():
                check_finite(key, array)
            return params

    return Found(read, any(config.get("go_backwards") for config in configs))


def _configs(node: Any) -> Iterator[dict]:
    """The configurations of LSTM layers anywhere in a model's."""
    if isinstance(node, dict):
        if node.get("class_name") in _LAYERS and isinstance(node.get("config"), dict):
            yield node["config"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from _configs(each)


def _layers(h5py: Any, file: Any) -> list[_Layer]:
    """All groups of arrays with an LSTM cell's shapes, the two directions of a Bidirectional as one layer."""
    groups: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}

    # Visits what the file itself holds: not its soft or external links, which could lead out of it.
    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            parent, _, leaf = path.rpartition("/")
            groups.setdefault(parent, {})[leaf.removesuffix(":0")] = item
        elif "name" in item.attrs:
            names[path.removesuffix("/vars")] = str(item.attrs["name"])

    file.visititems(visit)

    cells: dict[str, list[Any]] = {}
    for parent, leaves in groups.items():
        arrays = [leaves[key] for key in (_NAMED if "kernel" in leaves else _NUMBERED) if key in leaves]
        if len(arrays) > 1 and len(arrays[1].shape) == 2 and arrays[1].shape[1] == 4 * arrays[1].shape[0]:
            path = re.sub(r"/(cell/vars|vars|lstm_cell[^/]*)$", "", parent)
            cells[path if path not in cells else parent] = arrays

    layers = []
    for path, arrays in cells.items():
        parent, _, last = path.rpartition("/")
        forward, backward = (f"{parent}/{way}{last.partition('ward')[2]}" for way in ("forward", "backward"))
        if path == backward and forward in cells:
            continue
        if path == forward and backward in cells:
            path, arrays = parent, arrays + cells[backward]
        name = names.get(path, path.rpartition("/")[2])
        layers.append(_Layer(name, path, {array.name: _read(array) for array in arrays}))
    return layers


def _read(dataset: Any) -> np.ndarray:
    """A dataset whose values the file holds, all of them."""
    with reading(dataset.name):
        if dataset.is_virtual or dataset.external:
            raise ValueError("its values are kept in another file.")
        if dataset.nbytes > dataset.id.get_storage_size():
            raise ValueError(f"claims {dataset.nbytes} bytes, of which the file holds {dataset.id.get_storage_size()}.")
        return dataset[()]
