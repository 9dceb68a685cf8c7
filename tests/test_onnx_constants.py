"""ONNX's weights that other nodes make of constants, what stands between layers, and what no file may say."""

from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx_graphs import H, I, lstm, make, model_of, weights
from onnxruntime.transformers.float16 import convert_float_to_float16
from trees import assert_identical

import jaxlstm
from jaxlstm.interop._onnx import from_onnx
from jaxlstm.interop._onnx_export import to_onnx

W, R, B = (weights()[name] for name in "WRB")
HALF = {f"{name}h": array.astype(np.float16) for name, array in weights().items()}
SCALE, ZERO = np.float32(0.03), np.int8(0)
BYTES = {name: np.round(a / SCALE).clip(-127, 127).astype(np.int8) for name, a in (("Wq", W), ("Rq", R))}
EXACT = {name: a.astype(np.float16).astype(np.float32) for name, a in weights().items()}

CONSTANT: dict[str, tuple[list, dict[str, np.ndarray], dict[str, np.ndarray]]] = {
    # nodes that make V, S or C of these arrays; what W, R and B they stand for
    "Cast": ([make("Cast", f"{k}h", v, to=1) for k, v in zip("WRB", "VSC", strict=True)], HALF, EXACT),
    "DequantizeLinear": (
        [make("DequantizeLinear", "Wq s z", "V"), make("DequantizeLinear", "Rq s z", "S")],
        BYTES | {"s": SCALE, "z": ZERO},
        {"W": BYTES["Wq"] * SCALE, "R": BYTES["Rq"] * SCALE},
    ),
    "ConstantOfShape": ([make("ConstantOfShape", "n", "C")], {"n": np.array([1, 8 * H])}, {"B": np.zeros_like(B)}),
    "Expand": (
        [make("Expand", "b n", "C")],
        {"b": np.array([0.5], np.float32), "n": np.array([1, 8 * H])},
        {"B": 0 * B + 0.5},
    ),
    "Mul": ([make("Mul", "W s", "V")], {"s": np.float32(2)}, {"W": 2 * W}),
    "Gather": ([make("Gather", "W i", "V", axis=2)], {"i": np.array([2, 0, 1])}, {"W": W[:, :, [2, 0, 1]]}),
    "Split and Concat": (
        [
            helper.make_node("Split", ["B"], ["b0", "b1"], axis=1, num_outputs=2),
            make("Concat", "b1 b0", "C", axis=1),
        ],
        {},
        {"B": np.concatenate([B[:, 4 * H :], B[:, : 4 * H]], 1)},
    ),
}


@pytest.mark.parametrize("case", CONSTANT)
def test_weights_made_of_constants_are_what_onnx_runtime_runs(case):
    nodes, given, stands_for = CONSTANT[case]
    made = {output for node in nodes for output in node.output}
    inputs = " ".join(["x", *(v if v in made else k for k, v in zip("WRB", "VSC", strict=True))])
    model = lstm(nodes=nodes, inputs=inputs, initializers=given, opset=18)
    assert_identical(from_onnx(model), from_onnx(lstm(initializers=stands_for)))
    model.ir_version = 8
    x = np.random.default_rng(0).normal(size=(5, 2, I)).astype(np.float32)
    expected: Any
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    y, _ = jaxlstm.lstm(from_onnx(model), x)
    np.testing.assert_allclose(y, expected[:, 0], rtol=0, atol=1e-6)


def test_local_functions_are_looked_into():
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], "inner", hidden_size=H)
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Layer", ["x", "W", "R", "B"], ["y"], [node], opsets)
    model = model_of([helper.make_node("Layer", ["x", "W", "R", "B"], ["y"], domain="own")], weights())
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    assert_identical(from_onnx(model), from_onnx(lstm()))

    call = helper.make_node("Layer", ["x", "W", "R", "B"], ["z"], domain="own")
    function.node.append(call)
    model.functions[0].CopyFrom(function)
    with pytest.raises(ValueError, match="ONNX model: function 'Layer' calls itself"):
        from_onnx(model)


def test_functions_that_multiply_are_refused():
    model = model_of([helper.make_node("F0", ["x"], ["y"], domain="own")], {})
    for k in range(40):
        bodies = [
            helper.make_node(f"F{k + 1}" if k < 39 else "Relu", ["a"], [f"b{j}"], domain="own" if k < 39 else "")
            for j in (0, 1)
        ]
        model.functions.append(
            helper.make_function("own", f"F{k}", ["a"], ["b0"], bodies, [helper.make_opsetid("", 17)])
        )
    with pytest.raises(ValueError, match="functions call each other for more than 100000 nodes"):
        from_onnx(model)


def test_a_lost_projection_is_seen_by_the_cell_state():
    """As PyTorch's newer exporter writes an LSTM with hidden_size 6 and proj_size 4."""
    model = lstm(inputs="x W R B _ h c", initializers={"h": np.zeros((1, 2, H), "f"), "c": np.zeros((1, 2, 6), "f")})
    with pytest.raises(
        ValueError, match=r"LSTM node 'node': 'c': expected a cell state of hidden_size 4, got 6\. .*proj_size"
    ):
        from_onnx(model)


def broken(case: str) -> onnx.ModelProto:
    model = lstm()
    (w,) = (tensor for tensor in model.graph.initializer if tensor.name == "W")
    if case == "negative size":
        w.dims[1] = -1
    elif case == "twice":
        model.graph.initializer.append(w)
    elif case == "unknown attribute":
        model.graph.node[0].attribute.append(helper.make_attribute("hiden_size", 3))
    elif case == "quantized":
        model = model_of(
            [
                helper.make_node("DynamicQuantizeLSTM", ["x"], [f"y{k}"], f"q{k}", domain="com.microsoft")
                for k in (0, 1)
            ],
            {},
        )
    elif case == "grown by one input again":
        model = lstm(inputs="x V R B", nodes=[make("Concat", "W " * 500_000, "V", axis=0)])
    elif case == "grown by a shape":
        model = lstm(
            inputs="x W R V", nodes=[make("ConstantOfShape", "n", "V")], initializers={"n": np.array([1, 2**40])}
        )
    return model


BROKEN = {
    "negative size": "LSTM node 'node': W: 'W' has a negative size",
    "twice": "'W' is made twice",
    "unknown attribute": "LSTM node 'node': hiden_size: no attribute of LSTM",
    "quantized": "node 'q0': a DynamicQuantizeLSTM, whose weights",
    "grown by one input again": "LSTM node 'node': W: its constants, .* are far larger than the model",
    "grown by a shape": "LSTM node 'node': B: its constants, .* are far larger than the model",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_no_model_may_say_is_refused(case):
    with pytest.raises(ValueError, match=f"^ONNX model: {BROKEN[case]}"):
        from_onnx(broken(case))


def test_names_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "lstm.onnx"
    path.write_bytes(lstm().SerializeToString().replace(b"hidden_size", b"hidden\xffsize"))
    with pytest.raises(ValueError, match=f"^{path}: "):
        from_onnx(path)


def test_our_nodes_have_names_and_constants_that_every_tool_reads(tmp_path):
    """ONNX Runtime's symbolic shape inference, which comes before its quantizers, knows `value` only."""
    to_onnx(jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2), tmp_path / "lstm.onnx")
    nodes = onnx.load(tmp_path / "lstm.onnx").graph.node
    assert len({node.name for node in nodes}) == len(nodes)
    assert all([a.name for a in node.attribute] == ["value"] for node in nodes if node.op_type == "Constant")


@pytest.mark.parametrize("keep_io_types", [False, True])
def test_onnx_runtimes_converter_to_float16_takes_our_file(keep_io_types, tmp_path):
    params = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2, bidirectional=True)
    to_onnx(params, tmp_path / "lstm.onnx")
    half = convert_float_to_float16(onnx.load(tmp_path / "lstm.onnx"), keep_io_types=keep_io_types)
    x = np.random.default_rng(0).normal(size=(5, 2, I)).astype(np.float32 if keep_io_types else np.float16)
    results: Any = onnxruntime.InferenceSession(half.SerializeToString()).run(None, {"x": x})
    y, (h, c) = jaxlstm.lstm(params, x.astype(np.float32))
    for got, expected in zip(results, (y, h, c), strict=True):
        assert got.dtype == x.dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-3)
