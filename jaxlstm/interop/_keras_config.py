"""What a Keras model's configuration says of its recurrent layers: names, and where a file has their arrays.

A configuration is nested objects `{"class_name": ..., "config": {...}}`. Files of two kinds go by it. A `.keras`
addresses an object by the attributes that lead to it, and the members of a list by their class and a count:
`layers/lstm_1`, `layers/bidirectional/forward_layer`. A `.h5` has a group for each layer of the model by its name, and
in it arrays below the names of what is inside.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxlstm.interop._cells import CELLS, kind_of

_CLASSES = {
    "LSTM": "LSTM",
    "LSTMCell": "LSTM",
    "CuDNNLSTM": "LSTM",
    "GRU": "GRU",
    "GRUCell": "GRU",
    "SimpleRNN": "RNN",
    "SimpleRNNCell": "RNN",
}
_KIND_BY_OPTION = {"unit_forget_bias": "LSTM", "reset_after": "GRU"}
_GATES = {kind_of(cell): cell.num_gates for cell in CELLS}
OLD_CONTAINER = "_layer_checkpoint_dependencies"
"""What Keras 2.12 and 2.13 call a model's `layers`; each that has weights counts twice there."""


class Way(NamedTuple):
    """One direction of a layer.

    Attributes:
        config: of the layer or cell that has the equations.
        address: where a `.keras` has its arrays.
        names: for a `.h5`, what each step on the way down to its arrays may be called.
    """

    config: Mapping[str, Any]
    address: str
    names: tuple[frozenset[str], ...]


class Layer(NamedTuple):
    """A layer of one or two directions, or one of several cells of an `RNN`.

    Attributes:
        name: what Keras calls it.
        ways: its directions.
        kind: "LSTM", "GRU" or "RNN".
        reverse: it runs over time backwards only.
        returns_sequences: its output is one of every step.
        wrong: why no cell can run it, or "".
    """

    name: str
    ways: tuple[Way, ...]
    kind: str = "LSTM"
    reverse: bool = False
    returns_sequences: bool = False
    wrong: str = ""


def layers_of(node: Any, *, old: bool = False) -> list[Layer]:
    """The LSTM, GRU and RNN layers of an object's configuration; `old` for addresses by `OLD_CONTAINER`."""
    return list(_object(node, "", (), old)) if _is_object(node) else []


def is_one_stack(node: Any, kind: str) -> bool:
    """Whether a model's layers of that kind all stand on one another, with nothing between that acts on the numbers."""
    if not _is_object(node) or node["class_name"] != "Sequential" or not isinstance(node["config"], dict):
        return False
    members = [member for member in node["config"].get("layers", ()) if _is_object(member)]
    found = [
        [layer for layer in layers_of({"class_name": "", "config": {"layers": [member]}}) if layer.kind == kind]
        for member in members
    ]
    places = [k for k, layers in enumerate(found) if layers]
    if not places or any(not found[k] and members[k]["class_name"] != "Dropout" for k in range(places[0], places[-1])):
        return False
    layers = [layer for k in places for layer in found[k]]
    if not all(layer.ways for layer in layers):
        return False
    kinds = {(len(layer.ways), layer.ways[0].config.get("units"), layer.reverse) for layer in layers}
    return len(kinds) == 1 and not layers[0].reverse and all(layer.returns_sequences for layer in layers[:-1])


def refuse_other_arrays(kind: str, way: Way, arrays: Sequence[Any]) -> None:
    """What a direction's arrays must be, by its configuration."""
    units, use_bias = way.config.get("units"), way.config.get("use_bias", True)
    hidden, columns = arrays[1].shape
    if columns != _GATES[kind] * hidden:
        wanted = f"[H, {_GATES[kind]}H] of kind {kind}, as its configuration says"
        raise ValueError(f"recurrent_kernel: expected {wanted}, got {[hidden, columns]}.")
    if units is not None and units != hidden:
        raise ValueError(f"units: expected {units}, as its configuration says, got a recurrent_kernel of {hidden}.")
    if use_bias != (len(arrays) == 3):
        raise ValueError(
            f"bias: {'missing' if use_bias else 'surplus'}, as its configuration says use_bias = {use_bias}."
        )


def is_bfloat16(way: Way) -> bool:
    """Whether a direction's arrays are said to be in bfloat16, which HDF5 has no type for."""
    policy = way.config.get("dtype")
    if isinstance(policy, dict) and isinstance(policy.get("config"), dict):
        policy = policy["config"].get("name")
    return policy == "bfloat16"


def _object(node: Any, address: str, names: tuple[frozenset[str], ...], old: bool) -> Iterator[Layer]:
    config = node["config"]
    if isinstance(config, list):  # A Sequential of Keras 2.2.
        config = {"layers": config}
    if not isinstance(config, dict):
        return
    name = str(config.get("name", node.get("name", "")))
    below = (*names, frozenset({name})) if address else names
    if "merge_mode" in config:
        yield _bidirectional(config, name, address, below)
    elif kind := _kind(node):
        yield Layer(
            name,
            (Way(config, address, below),),
            kind,
            bool(config.get("go_backwards")),
            bool(config.get("return_sequences")),
        )
    elif _kind(config.get("cell")):
        (cell,) = _object(config["cell"], address, names, old)
        yield cell._replace(
            name=name,
            ways=(cell.ways[0]._replace(names=below),),
            reverse=bool(config.get("go_backwards")),
            returns_sequences=bool(config.get("return_sequences")),
        )
    else:
        for key, value in config.items():
            yield from _inside(value, f"{address}/{key}" if address else key, below, old)


def _inside(value: Any, address: str, names: tuple[frozenset[str], ...], old: bool) -> Iterator[Layer]:
    """Objects that are an object's attribute, alone or in a list or dict."""
    if _is_object(value):
        yield from _object(value, address, names, old)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _inside(each, f"{address}/{key}", names, old)
    elif isinstance(value, list):
        twice = old and address.rpartition("/")[2] == "layers"
        address = address.removesuffix("layers") + OLD_CONTAINER if twice else address
        counts: dict[str, int] = {}
        for each in filter(_is_object, value):
            kind = _snake_case(each["class_name"])
            count = counts.get(kind, 0)
            counts[kind] = count + 1 + twice
            yield from _object(each, f"{address}/{kind}_{count}" if count else f"{address}/{kind}", names, old)


def _bidirectional(config: Mapping[str, Any], name: str, address: str, names: tuple[frozenset[str], ...]) -> Layer:
    forward = config["layer"]
    backward = config.get("backward_layer") or forward
    ways, kinds, wrong = [], set(), ""
    for node, prefix in ((forward, "forward_"), (backward, "backward_")):
        inner = list(_object(node, f"{address}/{prefix}layer", (), old=False))
        kinds.update(each.kind for each in inner)
        if len(inner) != 1 or len(inner[0].ways) != 1 or len(kinds) != 1:
            return Layer(name, (), wrong="a Bidirectional of something else than one LSTM: give its parts in a list.")
        own = inner[0].name
        called = {f"{prefix}{own.removeprefix(prefix)}", *(() if node is forward and prefix == "backward_" else (own,))}
        ways.append(inner[0].ways[0]._replace(names=(*names, frozenset(called))))
        if prefix == "forward_" and inner[0].reverse:
            wrong = "go_backwards: the forward layer of a Bidirectional must run forward."
    if config["merge_mode"] != "concat":
        wrong = f"merge_mode: expected 'concat', as PyTorch's, got {config['merge_mode']!r}."
    sequences = bool(forward["config"].get("return_sequences"))
    return Layer(name, tuple(ways), kinds.pop(), returns_sequences=sequences, wrong=wrong)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_name"), str) and "config" in value


def _kind(node: Any) -> str | None:
    """Of a layer or a cell, or None; a class of the user's own that extends one keeps its settings."""
    if not _is_object(node) or not isinstance(node["config"], dict):
        return None
    if node["class_name"] in _CLASSES:
        return _CLASSES[node["class_name"]]
    return next((kind for key, kind in _KIND_BY_OPTION.items() if key in node["config"]), None)


def _snake_case(name: str) -> str:
    """As Keras does it."""
    name = re.sub(r"\W+", "", name.rpartition(">")[2])
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
