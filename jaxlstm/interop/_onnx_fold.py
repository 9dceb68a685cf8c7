"""Values that an ONNX graph's constants alone determine, computed by ONNX's own reference within bounds of memory."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlstm.interop._cells import need

_MOST_RUNS = 10_000
_LARGEST_SHOWN = 1024
"""Elements up to which a value may be a shape, axes or bounds, and is shown to shape inference."""
_NEWER = {"DequantizeLinear": 19}
"""Operators that the reference has from a later version on, in which they mean what they meant."""
_RECURRENT = {"LSTM", "GRU", "RNN"}


class Folder:
    """Runs single nodes, and accounts for what they take.

    Args:
        onnx: the library.
        opsets: the operators' versions.
        most_bytes: what all values may take.
    """

    def __init__(self, onnx: Any, opsets: list[Any], most_bytes: int) -> None:
        self._onnx = onnx
        self._opsets = opsets
        self._bytes_left = most_bytes
        self._runs_left = _MOST_RUNS

    def spend(self, size: int) -> None:
        """Account for memory taken, and refuse a model that wants far more of it than it has itself."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ValueError("its constants, as they are rearranged and used, are far larger than the model.")

    def run(self, node: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A node's outputs."""
        self._refuse_unfit(node)
        make, kept = self._onnx.helper, [name for name in node.output if name]
        given = {name: array for name, array in inputs.items() if array.size > _LARGEST_SHOWN}
        constants = [self._onnx.numpy_helper.from_array(a, name) for name, a in inputs.items() if name not in given]
        values = [
            make.make_tensor_value_info(name, make.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in given.items()
        ]
        outputs = [make.make_empty_tensor_value_info(name) for name in kept]
        model = make.make_model(make.make_graph([node], "fold", values, outputs, constants), opset_imports=self._opsets)
        try:
            inferred = self._onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except Exception as error:
            raise ValueError(f"{node.output[0]!r} can't be computed by {node.op_type}: {error}") from error
        self.spend(sum(self._bytes(output) for output in inferred.graph.output))
        if node.op_type in _NEWER and self._opsets[0].version < _NEWER[node.op_type]:
            del model.opset_import[:]
            model.opset_import.append(make.make_opsetid("", _NEWER[node.op_type]))
        evaluator = need("onnx.reference", "from_onnx", "'jaxlstm[onnx]'").ReferenceEvaluator(model)
        return dict(zip(kept, map(np.asarray, evaluator.run(None, given)), strict=True))

    def _refuse_unfit(self, node: Any) -> None:
        self._runs_left -= 1
        if self._runs_left < 0:
            raise ValueError(f"its constants are computed in more than {_MOST_RUNS} steps.")
        defs = self._onnx.defs
        has_graph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        versions = [opset.version for opset in self._opsets]
        plain = node.domain in ("", "ai.onnx") and node.op_type not in _RECURRENT and not has_graph and versions
        if plain:
            schema = defs.get_schema(node.op_type, versions[0], "")
            # Dropout drops nothing, unless its third input says that it is being trained.
            idle = node.op_type == "Dropout" and len(node.input) < 3
            plain = idle or schema.node_determinism == defs.OpSchema.NodeDeterminism.Deterministic
        if not plain:
            raise ValueError(
                f"{node.output[0]!r} is computed by {node.op_type} at run time; weights must be constants."
            )

    def _bytes(self, output: Any) -> int:
        tensor = output.type.tensor_type
        if not tensor.elem_type or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            raise ValueError(f"{output.name!r} has a size that only running it would tell; weights must be constants.")
        itemsize = self._onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        return itemsize * math.prod(dim.dim_value for dim in tensor.shape.dim)
