"""The parts of an ONNX graph that an importer of weights looks at: LSTM nodes, constants, and what feeds what."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxlstm.interop._cells import need

FOLDABLE = {"Identity", "Unsqueeze", "Squeeze", "Slice", "Concat", "Transpose", "Reshape"}
"""Operators by which exporters bring weights into ONNX's order, and which leave constants constant."""
_CONSTANTS = {"value", "value_float", "value_floats", "value_int", "value_ints"}
_DEEPEST = 50
_MOST_COPIES, _SLACK = 16, 2**26


class Scope:
    """The values that the nodes of one graph see: its own, and those of the graphs around it."""

    def __init__(self, graph: Any, outer: "Scope | None" = None) -> None:
        self.nodes = list(graph.node)
        self.outer = outer
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {output: node for node in self.nodes for output in node.output if output}

    def holding(self, name: str) -> "Scope | None":
        """The innermost scope that makes this value; None if it comes from outside of the model."""
        scope: Scope | None = self
        while scope is not None and name not in scope.producers and name not in scope.initializers:
            scope = scope.outer
        return scope


class Graph:
    """A model, read without running anything in it.

    Args:
        model_or_path: a path, the bytes of a model, or an `onnx.ModelProto`.
    """

    def __init__(self, model_or_path: Any) -> None:
        self.onnx = need("onnx", "onnx", "from_onnx")
        self.folder: Path | None = None
        if isinstance(model_or_path, str | os.PathLike):
            self.folder = Path(model_or_path).parent
            model_or_path = Path(model_or_path).read_bytes()
        if isinstance(model_or_path, bytes):
            model_or_path = self.onnx.ModelProto.FromString(model_or_path)
        if not isinstance(model_or_path, self.onnx.ModelProto):
            raise TypeError(f"expected a path, bytes or an onnx.ModelProto, got {type(model_or_path).__name__}.")
        if not model_or_path.HasField("graph"):
            raise ValueError("not an ONNX model, or an empty one.")
        self._opsets = [opset for opset in model_or_path.opset_import if opset.domain in ("", "ai.onnx")]
        # A small model may join its constants to themselves again and again, or use them in a thousand layers.
        self._bytes_left = _MOST_COPIES * model_or_path.ByteSize() + _SLACK
        self._folded: dict[tuple[int, str], np.ndarray] = {}
        self.root = Scope(model_or_path.graph)

    def nodes(self, op_type: str, scope: Scope | None = None) -> Iterator[tuple[Any, Scope]]:
        """All nodes of one operator with where they stand, those in subgraphs (`If`, `Loop`) too."""
        scope = scope or self.root
        for node in scope.nodes:
            if node.op_type == op_type and node.domain in ("", "ai.onnx"):
                yield node, scope
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    if graph.node:
                        yield from self.nodes(op_type, Scope(graph, scope))

    def attributes(self, node: Any) -> dict[str, Any]:
        """A node's attributes by name, text as text."""
        return {attribute.name: _text(self.onnx.helper.get_attribute_value(attribute)) for attribute in node.attribute}

    def spend(self, size: int) -> None:
        """Account for memory taken, and refuse a model that wants far more of it than it has itself."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ValueError("its constants, as they are rearranged and used, are far larger than the model.")

    def constant(self, name: str, scope: Scope, depth: int = 0) -> np.ndarray:
        """A value that the model alone determines."""
        home = scope.holding(name)
        if home is None:
            raise ValueError(f"{name!r} is an input of the model; weights must be constants: make it an initializer.")
        key = id(home), name
        if key not in self._folded:
            node = home.producers.get(name)
            if node is None:
                self._folded[key] = self._array(home.initializers[name])
            elif node.op_type == "Constant":
                self._folded[key] = self._constant(node)
            elif node.op_type in FOLDABLE and depth < _DEEPEST:
                inputs = {i: self.constant(i, home, depth + 1) for i in node.input if i}
                self._folded[key] = self._run(node, inputs)
            else:
                raise ValueError(f"{name!r} is computed by {node.op_type} at run time; weights must be constants.")
        return self._folded[key]

    def _constant(self, node: Any) -> np.ndarray:
        (attribute,) = node.attribute
        if attribute.name not in _CONSTANTS:
            raise ValueError(f"{node.output[0]!r} is a Constant of {attribute.name}; weights must be plain tensors.")
        return self._array(attribute.t) if attribute.name == "value" else self._run(node, {})

    def _array(self, tensor: Any) -> np.ndarray:
        if self.onnx.external_data_helper.uses_external_data(tensor):
            if self.folder is None:
                raise ValueError(f"{tensor.name!r} is kept in a file beside the model: give the model's path.")
            # onnx itself refuses a location outside of the folder and a length beyond the file.
            self.onnx.external_data_helper.load_external_data_for_tensor(tensor, str(self.folder))
        return self.onnx.numpy_helper.to_array(tensor)

    def _run(self, node: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
        self.spend(sum(array.nbytes for array in inputs.values()))
        make = self.onnx.helper
        values = [[make.make_empty_tensor_value_info(name) for name in names] for names in (inputs, node.output)]
        model = make.make_model(make.make_graph([node], "fold", *values), opset_imports=self._opsets)
        return need("onnx.reference", "onnx", "from_onnx").ReferenceEvaluator(model).run(None, inputs)[0]


def _text(value: Any) -> Any:
    """ONNX keeps text as bytes."""
    if isinstance(value, list):
        return [_text(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value
