"""Small ONNX models made by hand, of one LSTM node or more."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

I, H = 3, 4  # noqa: E741


def weights(directions=1, width=I, seed=0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"W": (directions, 4 * H, width), "R": (directions, 4 * H, H), "B": (directions, 8 * H)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def model_of(nodes, initializers, opset=17) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", I])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def make(op_type, inputs, output, **attributes) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], **attributes)


def lstm(opset=17, initializers=(), nodes=(), inputs="x W R B", **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("LSTM", inputs.replace("_", "").split(" "), ["y"], "node")
    for name, value in ({"hidden_size": H} | attributes).items():
        node.attribute.append(helper.make_attribute(name, value))
    return model_of([*nodes, node], weights() | dict(initializers), opset)


def folded() -> onnx.ModelProto:
    """As PyTorch exports its own weights: cut into gates, put in ONNX's order, and given an axis for the direction."""
    whole = weights()["W"][0]
    order = np.split(whole, 4)
    torch_order = np.concatenate([order[0], order[2], order[3], order[1]])  # i o f c to i f c o
    nodes = [helper.make_node("Constant", [], ["torch"], value=numpy_helper.from_array(torch_order))]
    bounds = {"i": (0, H), "o": (3 * H, 4 * H), "fc": (H, 3 * H)}
    for name, (start, end) in bounds.items():
        nodes += [helper.make_node("Constant", [], [f"{name}_{k}"], value_ints=[v]) for k, v in enumerate((start, end))]
        nodes += [make("Slice", f"torch {name}_0 {name}_1 zero", name)]
    nodes += [make("Concat", "i o fc", "gates", axis=0), make("Unsqueeze", "gates zero", "V")]
    return lstm(nodes=nodes, inputs="x V R B", initializers={"zero": np.array([0])})
