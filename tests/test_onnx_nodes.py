"""Which ONNX nodes are one LSTM's layers, which are told apart, and which are none that this LSTM is."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_graphs import H, I, folded, lstm, make, model_of, weights
from trees import assert_identical

from jaxlstm.interop._onnx import from_onnx


def two_layers(between: list[onnx.NodeProto], directions: int = 1, opset: int = 17, **upper: Any) -> onnx.ModelProto:
    """Two LSTM nodes with these nodes between the first's `y0` and the second's `x1`."""
    kind = {"hidden_size": H, "direction": "bidirectional" if directions == 2 else "forward"}
    arrays = {f"{name}{k}": a for k in (0, 1) for name, a in weights(directions, (I, directions * H)[k], k).items()}
    arrays |= {name: np.array([k]) for k, name in enumerate(("zero", "one", "two"))} | {"joined": np.array([0, 0, -1])}
    lower = helper.make_node("LSTM", ["x", "W0", "R0", "B0"], ["y0"], "first", **kind)
    above = helper.make_node("LSTM", ["x1", "W1", "R1", "B1"], ["y"], "second", **kind | upper)
    return model_of([lower, *between, above], arrays, opset)


SQUEEZE = make("Squeeze", "y0 one", "a")
JOIN = [make("Transpose", "y0", "a", perm=[0, 2, 1, 3]), make("Reshape", "a joined", "x1")]
SLICES = [
    make("Slice", "y0 zero one one", "f4"),
    make("Squeeze", "f4 one", "f"),
    make("Slice", "y0 one two one", "b4"),
    make("Squeeze", "b4 one", "b"),
]
STACKED = {
    # what stands between two layers, directions, opset
    "as PyTorch, one direction": ([make("Squeeze", "y0 one", "x1")], 1, 17),
    "as PyTorch, two directions": (JOIN, 2, 17),
    "as PyTorch, before opset 13": ([make("Squeeze", "y0", "x1", axes=[1])], 1, 11),
    "dropout": ([SQUEEZE, make("Dropout", "a", "x1")], 1, 17),
    "as Keras, through batch_first": (
        [
            SQUEEZE,
            make("Transpose", "a", "b", perm=[1, 0, 2]),
            make("Identity", "b", "c"),
            make("Transpose", "c", "x1", perm=[1, 0, 2]),
        ],
        1,
        17,
    ),
    "a Cast there and back": ([SQUEEZE, make("Cast", "a", "b", to=10), make("Cast", "b", "x1", to=1)], 1, 17),
    "tf2onnx's two directions": ([*SLICES, make("Concat", "f b", "x1", axis=2)], 2, 17),
}
APART = {
    "states change places": ([make("Transpose", "y0", "a", perm=[0, 1, 3, 2]), make("Reshape", "a joined", "x1")], 2),
    "directions before batch": ([make("Reshape", "y0 joined", "x1")], 2),
    "batch and time change places": ([SQUEEZE, make("Transpose", "a", "x1", perm=[1, 0, 2])], 1),
    "an activation": ([SQUEEZE, make("Tanh", "a", "x1")], 1),
    "the directions' places changed": ([*SLICES, make("Concat", "b f", "x1", axis=2)], 2),
    "the directions' sum": ([*SLICES, make("Add", "f b", "s"), make("Concat", "s s", "x1", axis=2)], 2),
    "a rectifier": ([SQUEEZE, make("Relu", "a", "x1")], 1),
    "a rounding": ([SQUEEZE, make("Round", "a", "x1")], 1),
    "a part": ([SQUEEZE, make("Slice", "a zero one zero", "x1")], 1),
    "a sum with the input": ([SQUEEZE, make("Add", "a x", "x1")], 1),
}


@pytest.mark.parametrize("case", STACKED)
def test_stacked_nodes_are_found_by_following_the_graph(case):
    between, directions, opset = STACKED[case]
    params = from_onnx(two_layers(between, directions, opset))
    assert [len(cells) for cells in params] == [directions] * 2
    assert params[1][0].weight_ih.shape == (4 * H, directions * H)


@pytest.mark.parametrize("case", APART)
def test_nodes_are_not_stacked_across_anything_that_acts_on_the_numbers(case):
    model = two_layers(*APART[case])
    with pytest.raises(ValueError, match=r"2 LSTMs found. Choose one by node: 'first', 'second'"):
        from_onnx(model)
    assert len(from_onnx(model, node="first")) == len(from_onnx(model, node="second")) == 1


def test_layers_of_opposite_directions_are_not_one_stack():
    squeeze = [make("Squeeze", "y0 one", "x1")]
    with pytest.raises(ValueError, match="2 LSTMs found"):
        from_onnx(two_layers(squeeze, direction="reverse"))


def test_weights_may_be_rearranged_constants():
    assert_identical(from_onnx(folded()), from_onnx(lstm()))


def test_names_are_looked_up_in_the_graphs_around():
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=H)  # of no name, too
    branch = helper.make_graph([node], "branch", [], [helper.make_empty_tensor_value_info("y")])
    test = helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch)
    model = model_of([test], weights() | {"yes": np.array(True)})
    with pytest.raises(ValueError, match="node: 'y', 'y#1'"):
        from_onnx(model)
    assert_identical(from_onnx(model, node="y"), from_onnx(lstm()))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "peepholes": (
        {"inputs": "x W R B _ _ _ P", "initializers": {"P": np.ones((1, 3 * H), "f")}},
        "P: this .* peephole",
    ),
    "clip": ({"clip": 3.0}, "clip: this node clips its gates at 3.0"),
    "input_forget": ({"input_forget": 1}, "input_forget: this node couples"),
    "activations": ({"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "activations: .* got HardSigmoid, Tanh, Tanh"),
    "direction": ({"direction": "sideways"}, "direction: .* got 'sideways'"),
    "hidden_size": ({"hidden_size": 5}, r"W: expected \[D, 4H, I\] = \[1, 20, \?\]"),
    "weights fed in": ({"inputs": "x x R B"}, "W: 'x' is an input of the model"),
    "weights computed": (
        {"inputs": "x V R B", "nodes": [make("Mul", "W x", "V")]},
        "W: 'x' is an input of the model",
    ),
    "weights drawn": (
        {"inputs": "x V R B", "nodes": [make("RandomUniformLike", "W", "V")]},
        "W: 'V' is computed by RandomUniformLike at run time",
    ),
    "three gates": ({"initializers": {"R": np.ones((1, 3 * H, H), "f")}}, r"R: expected .* \[1, 16, 4\], got \[1, 12"),
    "another dtype": ({"initializers": {"B": np.ones((1, 8 * H), "i")}}, "B: expected one of float32, .* got int32"),
    "NaN": ({"initializers": {"B": np.full((1, 8 * H), np.nan, "f")}}, "B: NaN or Inf among the weights"),
    "two directions": ({"direction": "bidirectional"}, r"W: expected .* \[2, \?, \?\], got \[1, 16, 3\]"),
    "grown beyond the file": (
        {
            "inputs": "x V29 R B",
            "nodes": [make("Concat", f"V{k} V{k}" if k else "W W", f"V{k + 1}", axis=0) for k in range(29)],
        },
        "W: its constants, as they are rearranged and used, are far larger than the model",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_this_lstm_is_not_is_refused_with_words(case):
    options, words = REFUSED[case]
    with pytest.raises(ValueError, match=f"^ONNX model: LSTM node 'node': {words}"):
        from_onnx(lstm(**options))


def test_default_activations_may_be_spelled_out():
    assert_identical(from_onnx(lstm(activations=["sigmoid", "TANH", "Tanh"])), from_onnx(lstm()))


def test_one_constant_in_many_layers_is_not_taken_for_many(monkeypatch):
    monkeypatch.setattr("jaxlstm.interop._onnx_graph._SLACK", 0)
    monkeypatch.setattr("jaxlstm.interop._onnx_graph._MOST_COPIES", 3)
    arrays = weights(width=H)
    nodes = [make("LSTM", "x W R B", "y0", hidden_size=H)]
    for k in range(60):
        nodes += [make("Squeeze", f"y{k} one", f"x{k}"), make("LSTM", f"x{k} W R B", f"y{k + 1}", hidden_size=H)]
    few, many = (model_of(nodes[:end], arrays | {"one": np.array([1])}) for end in (7, None))
    assert len(from_onnx(few)) == 4
    with pytest.raises(ValueError, match="far larger than the model"):
        from_onnx(many)
