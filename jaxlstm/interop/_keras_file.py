"""Keras's files, read as data and never run: HDF5 (`.h5`, `.weights.h5`) and the zip around one (`.keras`)."""

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxlstm._types import LSTMParams
from jaxlstm.cells import LSTM, RNN
from jaxlstm.interop._cells import cell_of_params, cell_of_shape, check_finite, file_size, kind_of, reading, stacked
from jaxlstm.interop._found import Found
from jaxlstm.interop._h5 import H5File
from jaxlstm.interop._keras_cell import cell_of, refuse_other_equations
from jaxlstm.interop._keras_config import (
    OLD_CONTAINER,
    Layer,
    is_bfloat16,
    is_one_stack,
    layers_of,
    refuse_other_arrays,
)
from jaxlstm.interop._keras_layer import cells_of_arrays
from jaxlstm.interop._zip import open_zip

_NAMED = ("kernel", "recurrent_kernel", "bias")
_NUMBERED = ("0", "1", "2")
_MODEL, _OPTIMIZERS = "model_weights", ("optimizer", "optimizer_weights")
_MOST_CONFIG = 2**20
_SIMPLE_CELL = re.compile(r"(/cell|simple_rnn_cell[^/]*)(/vars)?$")
_GROUP_NAME = "a name here is a group's name, as the file has none of layers"
_REMEDY = "Load the model in Keras and give the layer itself, or its get_weights()."
_UNKNOWN_EQUATIONS = f"the file's configuration does not tell its equations. {_REMEDY}"


class _Group(NamedTuple):
    """A cell's arrays in a file.

    Attributes:
        path: of the group, with "/" between.
        arrays: by path, in Keras's order.
        surplus: the paths of other arrays in and below the group.
    """

    path: str
    arrays: dict[str, np.ndarray]
    surplus: list[str]

    @property
    def kind(self) -> str:
        """Told by the recurrent kernel's columns."""
        return kind_of(cell_of_shape(list(self.arrays.values())[1].T.shape) or LSTM)


class _Placed(NamedTuple):
    """A layer of a file: its directions' arrays, and what its configuration says, if there is one."""

    name: str
    path: str
    groups: list[_Group]
    layer: Layer | None
    note: str = ""

    @property
    def kind(self) -> str:
        """Its configuration's word before its arrays'."""
        if self.layer is not None and (self.layer.ways or not self.groups):
            return self.layer.kind
        return self.groups[0].kind


def find_keras(path: str | os.PathLike) -> dict[str, Found]:
    """The LSTM, GRU and RNN layers of a file by name; by path in the file, where two have the same name."""
    with _opened(path) as (file, text, version):
        groups, names = _read(file)
        version = version or file.text(file.file, "keras_version")
        text = text or file.text(file.file, "model_config") or "null"
        if len(text) > _MOST_CONFIG + os.path.getsize(path):
            raise ValueError(f"its configuration has {len(text)} bytes, more than the file itself.")
    config = json.loads(text)
    placed = _configured(config, groups, names) if config else _unconfigured(groups, names)

    taken = [each.name for each in placed]
    found = {each.name if taken.count(each.name) == 1 else each.path: _found(each, version) for each in placed}
    for kind in {each.kind for each in placed} if config and all(each.groups for each in placed) else ():
        stack = [name for name, each in found.items() if each.kind == kind]
        if len(stack) > 1 and is_one_stack(config, kind):
            found |= {name: found[name]._replace(above=upper) for name, upper in pairwise(stack)}
    return found


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[H5File, str, str | None]]:
    """A file's arrays, and its configuration and the version of Keras where those stand apart."""
    size = file_size(path)
    if not zipfile.is_zipfile(path):
        with H5File(path, size) as file:
            yield file, "", None
        return
    with open_zip(path) as archive:
        weights = archive.read("model.weights.h5")
        config = archive.read("config.json") if archive.getinfo("config.json").file_size <= _MOST_CONFIG + size else b""
        if not config:
            raise ValueError(f"config.json claims {archive.getinfo('config.json').file_size} bytes.")
        version = _version(archive)
    with H5File(io.BytesIO(weights), len(weights)) as file:
        yield file, config.decode(), version


def _version(archive: zipfile.ZipFile) -> str | None:
    if "metadata.json" not in archive.namelist():
        return None
    metadata = json.loads(archive.read("metadata.json"))
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else None


def _read(file: H5File) -> tuple[list[_Group], dict[str, str]]:
    """All cells of a file, but for an optimizer's copies of them, and the names that it gives to objects by path."""
    leaves: dict[str, dict[str, Any]] = {}
    names = {}
    # Keras on Windows has put its own separator into paths.
    for path, item in ((path.replace("\\", "/"), item) for path, item in file.items()):
        if path.partition("/")[0] in _OPTIMIZERS:
            continue
        if isinstance(item, file.h5py.Dataset):
            parent, _, leaf = path.rpartition("/")
            leaves.setdefault(parent, {})[leaf.removesuffix(":0")] = item
        elif (name := file.text(item, "name")) is not None:
            names[path.removesuffix("/vars")] = name

    groups = []
    for parent, items in leaves.items():
        keys = [key for key in (_NAMED if "kernel" in items else _NUMBERED) if key in items]
        shapes = [items[key].shape for key in keys]
        if len(keys) < 2 or not _are_of_a_cell(parent, keys, shapes):
            continue
        path = parent.removesuffix("/vars")
        surplus = [f"{parent}/{key}" for key in items if key not in keys]
        surplus += [f"{each}/{key}" for each, items in leaves.items() if _is_part(each, path) for key in items]
        groups.append(_Group(path, {items[key].name: file.array(items[key]) for key in keys}, surplus))
    return groups, names


def _are_of_a_cell(parent: str, keys: list[str], shapes: list[tuple[int, ...]]) -> bool:
    """Whether the first two arrays of a group are a cell's; two square ones are only where they are called so."""
    cell = cell_of_shape(shapes[1][::-1])
    if cell == RNN and "recurrent_kernel" not in keys and not _SIMPLE_CELL.search(parent):
        return False
    return cell is not None and (cell == LSTM or shapes[0][-1:] == shapes[1][-1:])


def _is_part(path: str, of: str) -> bool:
    """Whether arrays there belong to a cell, but for the state of its dropout's random numbers."""
    return path.startswith(f"{of}/") and path != f"{of}/vars" and "seed_generator" not in path


def _found(placed: _Placed, version: str | None) -> Found:
    def read(equations: Callable[[Layer, str | None], Any]) -> tuple[Any, LSTMParams]:
        with reading(f"layer {placed.name!r}"):
            layer, groups = placed.layer, placed.groups
            cell = None if layer is None else equations(layer, version)
            if not groups:
                raise ValueError(f"the file's arrays are none that its configuration promises. {_REMEDY}")
            for k, group in enumerate(groups):
                if group.surplus:
                    raise ValueError(f"{group.surplus[0]}: surplus; a cell has kernel, recurrent_kernel, bias.")
                if layer is not None:
                    refuse_other_arrays(layer.kind, layer.ways[k], list(group.arrays.values()))
            arrays = {
                key: array.view(jnp.bfloat16) if array.dtype == "V2" and layer and is_bfloat16(layer.ways[k]) else array
                for k, group in enumerate(groups)
                for key, array in group.arrays.items()
            }
            params = stacked([cells_of_arrays(list(arrays.values()), configured=layer is not None)])
            for key, array in arrays.items():
                check_finite(key, array)
            return (cell_of_params(params) if layer is None else cell), params

    return Found(
        lambda: read(refuse_other_equations)[1],
        kind=placed.kind,
        variant=lambda: read(cell_of),
        reverse=placed.layer is not None and placed.layer.reverse,
        note=placed.note,
    )


def _configured(config: Any, groups: list[_Group], names: dict[str, str]) -> list[_Placed]:
    """The layers that a configuration names, each with its arrays, and arrays of which it says nothing."""
    old = any(OLD_CONTAINER in group.path.split("/") for group in groups)
    layers = layers_of(config, old=old)
    numbered = any(key.rpartition("/")[2] in _NUMBERED for group in groups for key in group.arrays)
    places = _by_address if numbered else _by_name
    placed = [
        _Placed(layer.name, own[0].path if own else layer.name, own, layer)
        for layer, own in zip(layers, places(layers, groups, names), strict=True)
    ]
    matched = {id(group) for each in placed for group in each.groups}
    unconfigured = Layer("", (), wrong=_UNKNOWN_EQUATIONS)
    return placed + [
        each._replace(layer=unconfigured) for each in _unconfigured([g for g in groups if id(g) not in matched], names)
    ]


def _by_address(layers: list[Layer], groups: list[_Group], names: dict[str, str]) -> Iterator[list[_Group]]:
    """Each layer's arrays in a `.keras`."""
    by_path = {group.path.removesuffix("/cell"): group for group in groups}
    for layer in layers:
        own = [by_path[way.address] for way in layer.ways if way.address in by_path]
        top = layer.ways[0].address.removesuffix("/forward_layer") if layer.ways else ""
        fits = len(own) == len(layer.ways) and names.get(top, layer.name) == layer.name
        yield own if fits else []


def _by_name(layers: list[Layer], groups: list[_Group], names: dict[str, str]) -> Iterator[list[_Group]]:  # noqa: ARG001
    """Each layer's arrays in a `.h5`: below the group of the model's layer that it is or is in."""

    def is_below(group: _Group, names: frozenset[str]) -> bool:
        path = group.path.removeprefix(f"{_MODEL}/")
        return any(f"{path}/".startswith(f"{name}/") for name in names)

    tops = [way.names[0] for layer in layers for way in layer.ways]
    for layer in layers:
        own = []
        for way in layer.ways:
            there = [group for group in groups if is_below(group, way.names[0])]
            # Inside of a layer not every file names every step, where there is but one way to go.
            fit = there if tops.count(way.names[0]) == len(there) == 1 else [g for g in there if _leads(way.names, g)]
            own += fit if len(fit) == 1 else []
        yield own if len(own) == len(layer.ways) else []


def _leads(names: tuple[frozenset[str], ...], group: _Group) -> bool:
    path = f"/{group.path}/"
    return all(any(f"/{name}/" in path for name in each) for each in names)


def _unconfigured(groups: list[_Group], names: dict[str, str]) -> list[_Placed]:
    """Every cell as a layer, but the two directions of a Bidirectional as one."""
    parents = [_layer_path(group.path) for group in groups]
    cells = {
        group.path if parents.count(parent) > 1 else parent: group
        for group, parent in zip(groups, parents, strict=True)
    }
    placed = []
    for path, group in cells.items():
        parent, _, last = path.rpartition("/")
        forward, backward = (f"{parent}/{way}{last.partition('ward')[2]}" for way in ("forward", "backward"))
        if path == backward and forward in cells:
            continue
        paired = path == forward and backward in cells
        path, own = (parent, [group, cells[backward]]) if paired else (path, [group])
        name = names.get(path, path.rpartition("/")[2])
        is_keras = path in names or any(key.endswith(":0") for key in group.arrays)
        placed.append(_Placed(name, path, own, None, "" if is_keras else _GROUP_NAME))
    return placed


def _layer_path(path: str) -> str:
    parent, _, last = path.rpartition("/")
    return parent if last == "cell" or last.startswith(("lstm_cell", "gru_cell", "simple_rnn_cell")) else path
