"""ONNX Runtime's LSTM or GRU operator, forward only: a node for each layer, as PyTorch's exporter writes a stack."""

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from jaxlstm._names import suffix
from jaxlstm.cli.bench._machine import usable_cores
from jaxlstm.cli.bench._work import Work

VERSIONS = {"ir_version": 10, "opset_imports": [helper.make_opsetid("", 21)]}


def runner(work: Work) -> "OnnxRunner":
    """RuntimeError if ONNX Runtime can't run this on the platform that the others run on."""
    if work.platform != "cpu":
        raise RuntimeError(f"onnxruntime {onnxruntime.__version__} is compared on a CPU only")
    if work.dtype != "float32":
        raise RuntimeError(f"its {work.cell.upper()} computes in float32 only, not {work.dtype}")
    return OnnxRunner(work)


class OnnxRunner:
    """A `Runner` for one session; x and its results are NumPy's."""

    def __init__(self, work: Work) -> None:
        """Load the graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", len(usable_cores())))
        self._session = onnxruntime.InferenceSession(graph(work).SerializeToString(), options, ["CPUExecutionProvider"])
        self._x, self._layers = work.x, work.shape.layers

    def compile(self, mode: str) -> dict[str, float | None]:
        """Nothing is compiled, and nothing tells how much memory a call takes."""
        del mode
        return {"compile_s": None, "temp_bytes": None}

    def run(self, mode: str) -> list[np.ndarray]:
        """One call; output, then h_n `[D, B, H]` of each layer, then c_n of each."""
        del mode
        return self._session.run(None, {"x": self._x})  # pyright: ignore[reportReturnType]: dense tensors only

    def numbers(self, mode: str) -> dict[str, np.ndarray]:
        """What one call gives, as `Runner` says."""
        output, *states = self.run(mode)
        layers = self._layers
        h_n, *c_n = (np.concatenate(states[k : k + layers]) for k in range(0, len(states), layers))
        return {"output": output, "h_n": h_n} | ({"c_n": c_n[0]} if c_n else {})


def graph(work: Work) -> onnx.ModelProto:
    """The stack: `x` to `output`, and the states of each layer."""
    shape, nodes, constants, below = work.shape, [], [], "x"
    fields = "hc" if work.cell == "lstm" else "h"
    reset_after: dict[str, Any] = {} if work.cell == "lstm" else {"linear_before_reset": 1}
    directions = [suffix(0, direction).removeprefix("_l0") for direction in range(shape.directions)]
    constants.append(numpy_helper.from_array(np.array([0, 0, -1]), "merged"))
    for layer in range(shape.layers):

        def stacked(name, layer=layer):
            return np.stack(
                [in_onnx_order(work.weights[f"{name}_l{layer}{direction}"], work.cell) for direction in directions]
            )

        bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
        arrays = {"W": stacked("weight_ih"), "R": stacked("weight_hh"), "B": bias}
        constants += [numpy_helper.from_array(array, f"{name}{layer}") for name, array in arrays.items()]
        nodes += [
            helper.make_node(
                work.cell.upper(),
                [below, f"W{layer}", f"R{layer}", f"B{layer}"],
                [f"y{layer}", *(f"{name}{layer}" for name in fields)],
                hidden_size=shape.hidden,
                direction="bidirectional" if shape.directions == 2 else "forward",
                **reset_after,
            ),
            helper.make_node("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"t{layer}", "merged"], [f"output{layer}"]),
        ]
        below = f"output{layer}"
    states = [f"{name}{layer}" for name in fields for layer in range(shape.layers)]
    value = lambda name, sizes: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)  # noqa: E731
    outputs = [value(name, None) for name in (below, *states)]
    made = helper.make_graph(nodes, "stack", [value("x", list(work.x.shape))], outputs, constants)
    return helper.make_model(made, **VERSIONS)


def in_onnx_order(array: np.ndarray, cell: str) -> np.ndarray:
    """Rows of `[G*H, ...]`: PyTorch's gates i, f, g, o in ONNX's order i, o, f, c; r, z, n in its z, r, h."""
    own, theirs = {"lstm": ("ifgo", "iofg"), "gru": ("rzn", "zrn")}[cell]
    gates = dict(zip(own, np.split(array, len(own)), strict=True))
    return np.concatenate([gates[gate] for gate in theirs])
