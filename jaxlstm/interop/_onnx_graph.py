"""The parts of an ONNX graph that an importer of weights looks at: LSTM nodes, constants, and what feeds what."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxlstm.interop._cells import file_size, need
from jaxlstm.interop._onnx_fold import Folder

_CONSTANTS = {"value", "value_float", "value_floats", "value_int", "value_ints"}
_DEEPEST = 50
_MOST_NODES = 100_000
_MOST_COPIES, _SLACK = 16, 2**26
_MOST_PROBED = 2**28
DOMAINS = ("", "ai.onnx")

Probe = Mapping[tuple[int, str], np.ndarray]
"""Values that stand in for what is known at run time only, by the id of their scope and name."""


class Scope:
    """The values that the nodes of one graph see: its own, and those of the graphs around it."""

    def __init__(self, graph: Any, outer: "Scope | None" = None) -> None:
        self.nodes = list(graph.node)
        self.outer = outer
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {output: node for node in self.nodes for output in node.output if output}
        self._types = {value.name: value.type for value in (*graph.value_info, *graph.input, *graph.output)}
        names = [tensor.name for tensor in graph.initializer] + [o for n in self.nodes for o in n.output if o]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice!r} is made twice, by initializers or nodes.")

    def shape(self, name: str) -> list[int | None]:
        """What the model says of a value's shape: None for a size that it doesn't tell, empty if it says nothing."""
        if name in self.initializers:
            return list(self.initializers[name].dims)
        if name not in self._types:
            return []
        dims = self._types[name].tensor_type.shape.dim
        return [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]

    def holding(self, name: str) -> "Scope | None":
        """The innermost scope that makes this value; None if it comes from outside of the model."""
        scope: Scope | None = self
        while scope is not None and name not in scope.producers and name not in scope.initializers:
            scope = scope.outer
        return scope


class Graph:
    """A model, read without running anything in it but what makes constants of constants.

    Args:
        model_or_path: a path, the bytes of a model, or an `onnx.ModelProto`.
    """

    def __init__(self, model_or_path: Any) -> None:
        self.onnx = need("onnx", "from_onnx", "'jaxlstm[onnx]'")
        self.folder: Path | None = None
        if isinstance(model_or_path, str | os.PathLike):
            file_size(model_or_path)
            self.folder = Path(model_or_path).parent
            model_or_path = Path(model_or_path).read_bytes()
        if isinstance(model_or_path, bytes):
            model_or_path = self.onnx.ModelProto.FromString(model_or_path)
        if not isinstance(model_or_path, self.onnx.ModelProto):
            raise TypeError(f"expected a path, bytes or an onnx.ModelProto, got {type(model_or_path).__name__}.")
        if not model_or_path.HasField("graph"):
            raise ValueError("not an ONNX model, or an empty one.")
        size = model_or_path.ByteSize()
        model = self._inlined(model_or_path)
        self._opsets = [opset for opset in model.opset_import if opset.domain in DOMAINS]
        # A small model may join its constants to themselves again and again, or use them in a thousand layers.
        self._folder = Folder(self.onnx, self._opsets, _MOST_COPIES * size + _SLACK)
        self._probes = Folder(self.onnx, self._opsets, _MOST_PROBED)
        self._folded: dict[tuple[int, str], np.ndarray] = {}
        self.root = Scope(model.graph)

    def nodes(self, scope: Scope | None = None) -> Iterator[tuple[Any, Scope]]:
        """All nodes with where they stand, those in subgraphs (`If`, `Loop`) too."""
        scope = scope or self.root
        for node in scope.nodes:
            yield node, scope
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    if graph.node:
                        yield from self.nodes(Scope(graph, scope))

    def attributes(self, node: Any) -> dict[str, Any]:
        """A node's attributes by name, text as text; of an operator of ONNX's own, only those that it has."""
        attributes = {
            attribute.name: _text(self.onnx.helper.get_attribute_value(attribute)) for attribute in node.attribute
        }
        versions = [opset.version for opset in self._opsets]
        if node.domain in DOMAINS and versions:
            known = self.onnx.defs.get_schema(node.op_type, versions[0], "").attributes
            unknown = [name for name in attributes if name not in known]
            if unknown or len(attributes) < len(node.attribute):
                raise ValueError(f"{', '.join(unknown) or 'an attribute given twice'}: no attribute of {node.op_type}.")
        return attributes

    def spend(self, size: int) -> None:
        """Account for memory taken, and refuse a model that wants far more of it than it has itself."""
        self._folder.spend(size)

    def constant(self, name: str, scope: Scope) -> np.ndarray:
        """A value that the model alone determines."""
        return self._value(name, scope, {}, self._folded, 0)

    def probed(self, name: str, scope: Scope, probe: Probe) -> np.ndarray:
        """What a value would be, were those of the probe what they are."""
        return self._value(name, scope, probe, {}, 0)

    def _value(self, name: str, scope: Scope, probe: Probe, values: dict, depth: int) -> np.ndarray:
        home = scope.holding(name)
        if home is None:
            raise ValueError(f"{name!r} is an input of the model; weights must be constants: make it an initializer.")
        key = id(home), name
        if key in probe:
            return probe[key]
        if key not in values:
            node = home.producers.get(name)
            if node is None:
                values[key] = self._array(home.initializers[name])
            elif node.op_type == "Constant":
                values[key] = self._constant(node)
            elif depth == _DEEPEST:
                raise ValueError(f"{name!r} is computed in more than {_DEEPEST} steps; weights must be constants.")
            else:
                inputs = {i: self._value(i, home, probe, values, depth + 1) for i in node.input if i}
                outputs = (self._probes if probe else self._folder).run(node, inputs)
                values |= {(id(home), output): value for output, value in outputs.items()}
        return values[key]

    def _constant(self, node: Any) -> np.ndarray:
        (attribute,) = node.attribute
        if attribute.name not in _CONSTANTS:
            raise ValueError(f"{node.output[0]!r} is a Constant of {attribute.name}; weights must be plain tensors.")
        return self._array(attribute.t) if attribute.name == "value" else self._folder.run(node, {})[node.output[0]]

    def _array(self, tensor: Any) -> np.ndarray:
        if self.onnx.external_data_helper.uses_external_data(tensor):
            if self.folder is None:
                raise ValueError(f"{tensor.name!r} is kept in a file beside the model: give the model's path.")
            # onnx itself refuses a location outside of the folder and a length beyond the file.
            self.onnx.external_data_helper.load_external_data_for_tensor(tensor, str(self.folder))
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"{tensor.name!r} has a negative size: {list(tensor.dims)}.")
        return self.onnx.numpy_helper.to_array(tensor)

    def _inlined(self, model: Any) -> Any:
        """The model with its local functions' bodies in place of their calls."""
        if not model.functions:
            return model
        sizes: dict[tuple[str, str], int] = {}

        def nodes_of(nodes: Any, open_calls: tuple[tuple[str, str], ...]) -> int:
            total = 0
            for node in nodes:
                called = node.domain, node.op_type
                if called in open_calls or len(open_calls) == _DEEPEST:
                    raise ValueError(f"function {node.op_type!r} calls itself, or too deep.")
                if called in bodies and called not in sizes:
                    sizes[called] = nodes_of(bodies[called].node, (*open_calls, called))
                total += 1 + sizes.get(called, 0)
                total += sum(nodes_of(a.g.node, open_calls) for a in node.attribute if a.HasField("g"))
            return total

        bodies = {(function.domain, function.name): function for function in model.functions}
        if nodes_of(model.graph.node, ()) > _MOST_NODES:
            raise ValueError(f"its functions call each other for more than {_MOST_NODES} nodes.")
        return need("onnx.inliner", "from_onnx", "'jaxlstm[onnx]'").inline_local_functions(model)


def _text(value: Any) -> Any:
    """ONNX keeps text as bytes."""
    if isinstance(value, list):
        return [_text(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value
