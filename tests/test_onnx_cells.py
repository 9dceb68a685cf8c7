"""ONNX's recurrent nodes of every kind, judged by ONNX Runtime: activations, peepholes, clip, coupled gates."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx_graphs import H, I, make, model_of
from trees import assert_identical

import jaxlstm
from jaxlstm.interop import from_onnx, from_onnx_cell, to_onnx

onnxruntime.set_default_logger_severity(3)  # It logs that our optional inputs are no constants.

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
COUNT = {"LSTM": 3, "GRU": 2, "RNN": 1}
"""How many functions a direction has."""
ALPHA = {"Affine": 0.3, "Elu": 0.7, "HardSigmoid": 0.3, "LeakyRelu": 0.2, "ScaledTanh": 1.3, "ThresholdedRelu": 0.1}
BETA = {"Affine": 0.1, "HardSigmoid": 0.4, "ScaledTanh": 0.6}
ACTIVATIONS = [*ALPHA, "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"]


def weights(kind: str, directions: int = 1, *, peepholes: bool = False, width: int = I) -> dict[str, np.ndarray]:
    random, rows = np.random.default_rng(0), GATES[kind] * H
    shapes = {"W": (rows, width), "R": (rows, H), "B": (2 * rows,)} | ({"P": (3 * H,)} if peepholes else {})
    return {name: random.normal(0, 0.5, (directions, *shape)).astype(np.float32) for name, shape in shapes.items()}


def node(kind: str, *, peepholes: bool = False, **attributes: Any) -> onnx.NodeProto:
    inputs = ["x", "W", "R", "B"] + (["", "", "", "P"] if peepholes else [])
    after = {"linear_before_reset": 1} if kind == "GRU" else {}
    return helper.make_node(kind, inputs, ["y"], "node", **{"hidden_size": H} | after | attributes)


def model(kind: str, directions: int = 1, *, peepholes: bool = False, **attributes: Any) -> onnx.ModelProto:
    both = {"direction": "bidirectional"} if directions == 2 else {}
    made = model_of(
        [node(kind, peepholes=peepholes, **both, **attributes)], weights(kind, directions, peepholes=peepholes)
    )
    made.ir_version = 8
    return made


def assert_runs_as_onnx_runtime(given: onnx.ModelProto) -> jaxlstm.Cell:
    x = np.random.default_rng(1).normal(size=(5, 2, I)).astype(np.float32)
    expected: Any
    (expected,) = onnxruntime.InferenceSession(given.SerializeToString()).run(None, {"x": x})
    cell, params = from_onnx_cell(given)
    output, _ = jaxlstm.fold(cell, params, jnp.asarray(x))
    np.testing.assert_allclose(output, np.moveaxis(expected, 1, 2).reshape(output.shape), rtol=1e-5, atol=2e-6)
    again, _ = from_onnx_cell(given)
    assert again == cell
    assert hash(again) == hash(cell)
    return cell


def chosen(names: list[str]) -> dict[str, Any]:
    told = {
        f"activation_{name}": [given[each] for each in names if each in given]
        for name, given in (("alpha", ALPHA), ("beta", BETA))
    }
    return {"activations": names} | {name: values for name, values in told.items() if values}


@pytest.mark.parametrize("first", range(len(ACTIVATIONS)))
@pytest.mark.parametrize("kind", GATES)
def test_every_activation_in_every_place(kind, first):
    names = [ACTIVATIONS[(first + k) % len(ACTIVATIONS)] for k in range(COUNT[kind])]
    assert_runs_as_onnx_runtime(model(kind, **chosen(names)))


@pytest.mark.parametrize("activation", ["Elu", "HardSigmoid", "LeakyRelu"])
def test_alpha_and_beta_that_are_left_out(activation):
    assert_runs_as_onnx_runtime(model("RNN", activations=[activation]))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize(
    ("kind", "peepholes", "coupled"),
    [*itertools.product(["LSTM"], [False, True], [False, True]), ("GRU", False, False), ("RNN", False, False)],
)
def test_every_variant(kind, peepholes, coupled, clip, directions):
    names = ["HardSigmoid", "LeakyRelu", "ScaledTanh"][: COUNT[kind]]
    options: dict[str, Any] = ({"clip": clip} if clip else {}) | ({"input_forget": 1} if coupled else {})
    plain = assert_runs_as_onnx_runtime(model(kind, directions, peepholes=peepholes, **options))
    is_pytorchs = not (clip or peepholes or coupled)
    assert (plain in (jaxlstm.cells.LSTM, jaxlstm.cells.GRU, jaxlstm.cells.RNN)) == is_pytorchs
    other = assert_runs_as_onnx_runtime(
        model(kind, directions, peepholes=peepholes, **options, **chosen(names * directions))
    )
    assert other != plain


def test_a_cell_of_cells_lstm_is_what_comes():
    names = ["Sigmoid", "Relu", "Tanh"]
    cell, params = from_onnx_cell(model("LSTM", peepholes=True, clip=2.0, input_forget=1, activations=names))
    assert cell == jaxlstm.cells.lstm(peephole=True, coupled=True, clip=2.0, cell_activation=jax.nn.relu)
    made = jaxlstm.init_fold(jax.random.key(0), cell, I, H)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, made)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_pytorchs_other_cells_come_by_from_onnx(kind, directions):
    given = model(kind, directions)
    x = np.random.default_rng(1).normal(size=(5, 2, I)).astype(np.float32)
    expected: Any
    (expected,) = onnxruntime.InferenceSession(given.SerializeToString()).run(None, {"x": x})
    output, _ = jaxlstm.fold(getattr(jaxlstm.cells, kind), from_onnx(given), jnp.asarray(x))
    np.testing.assert_allclose(output, np.moveaxis(expected, 1, 2).reshape(output.shape), rtol=0, atol=2e-6)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "reset before the product": ({"kind": "GRU", "linear_before_reset": 0}, "GRU node 'node': linear_before_reset: "),
    "directions that differ": (
        {"kind": "RNN", "directions": 2, "activations": ["Tanh", "Relu"]},
        "RNN node 'node': activations: expected the same in both directions",
    ),
    "too few": ({"kind": "LSTM", "activations": ["Tanh"]}, "LSTM node 'node': activations: expected 3 .* got 1"),
    "unknown": (
        {"kind": "RNN", "activations": ["Gelu"]},
        "RNN node 'node': activations: expected ONNX's, .* got 'Gelu'",
    ),
    "no alpha": ({"kind": "RNN", "activations": ["Affine"]}, "RNN node 'node': activation_alpha: missing; Affine has"),
    "no threshold": ({"kind": "RNN", "activations": ["ThresholdedRelu"]}, "RNN node 'node': activation_alpha: missing"),
    "an alpha too many": (
        {"kind": "RNN", "activations": ["Elu"], "activation_alpha": [0.1, 0.2]},
        "RNN node 'node': activation_alpha: expected 1, one for each of Elu, got 2",
    ),
    "a clip of nothing": ({"kind": "LSTM", "clip": 0.0}, "LSTM node 'node': clip: expected a bound above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_equations_that_are_no_rules_are_refused(case):
    options, words = REFUSED[case]
    with pytest.raises(ValueError, match=f"^ONNX model: {words}"):
        from_onnx_cell(model(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "GRU", "linear_before_reset": 0}, "linear_before_reset"),
        ({"kind": "GRU", "clip": 1.0}, "clip: this node clips its gates at 1.0; PyTorch's GRU does not"),
        ({"kind": "RNN", "activations": ["Relu"]}, "activations: expected Tanh in each direction, got Relu"),
    ],
)
def test_from_onnx_takes_pytorchs_equations_only(options, words):
    with pytest.raises(ValueError, match=f"^ONNX model: {options['kind']} node 'node': {words}"):
        from_onnx(model(**options))


WRITTEN: dict[str, jaxlstm.Cell] = {
    "GRU": jaxlstm.cells.GRU,
    "RNN": jaxlstm.cells.RNN,
    "peepholes": jaxlstm.cells.lstm(peephole=True),
    "everything": jaxlstm.cells.lstm(
        peephole=True, coupled=True, clip=0.7, gate_activation=jax.nn.hard_sigmoid, cell_activation=jax.nn.leaky_relu
    ),
    "a GRU's": from_onnx_cell(model("GRU", clip=0.5, **chosen(["HardSigmoid", "ScaledTanh"])))[0],
    "an RNN's": from_onnx_cell(model("RNN", **chosen(["Relu"])))[0],
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_to_onnx_writes_is_run_and_read_back(name, bidirectional, batch_first, tmp_path):
    """With lengths, of which one is 0, and states, in two layers."""
    cell, path = WRITTEN[name], tmp_path / "model.onnx"
    bias = not batch_first
    params: Any = jaxlstm.init_fold(jax.random.key(0), cell, I, H, 2, bidirectional=bidirectional, bias=bias)
    to_onnx(params, path, batch_first=batch_first, **({} if name in ("GRU", "RNN") else {"cell": cell}))
    loaded, same = from_onnx_cell(path)
    assert_identical(same, params)
    if name != "everything":  # Whose functions of JAX's own become ONNX's.
        assert loaded == cell

    random = np.random.default_rng(0)
    x = random.normal(size=(3, 5, I) if batch_first else (5, 3, I)).astype(np.float32)
    lengths = np.array([5, 0, 3], np.int32)
    states = [random.normal(size=(2 * (1 + bidirectional), 3, H)).astype(np.float32) for _ in cell.state._fields]
    given = {"x": x, "sequence_lens": lengths} | dict(zip(("h_0", "c_0"), states, strict=False))
    expected = onnxruntime.InferenceSession(path).run(None, given)
    for each in {cell, loaded}:
        got, final = jaxlstm.fold(each, params, x, tuple(states), lengths=lengths, batch_first=batch_first)
        for a, b in zip((got, *final), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def own(extra: Any, state: Any, x_sums: jax.Array, h_sums: jax.Array) -> Any:
    del extra
    return state, x_sums[0] + h_sums[0]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (jaxlstm.cells.lstm(layer_norm=True), "cell: expected PyTorch's LSTM, GRU or RNN, .* got lstm, which"),
        (jaxlstm.Cell(own, num_gates=4), "cell: expected PyTorch's LSTM, .* got own, which ONNX has no node for"),
        (jaxlstm.cells.lstm(cell_activation=jax.nn.gelu), "cell: expected activations of ONNX's, .* got .*gelu"),
    ],
)
def test_cells_that_onnx_has_no_node_for_are_not_written(cell, words, tmp_path):
    params = jaxlstm.init_fold(jax.random.key(0), cell, I, H)
    with pytest.raises(ValueError, match=words):
        to_onnx(params, tmp_path / "model.onnx", cell=cell)
    assert not list(tmp_path.iterdir())


def test_nodes_of_other_equations_are_another_stack():
    def two(upper: str) -> onnx.ModelProto:
        nodes = [node("RNN", activations=["Relu"]), make("Squeeze", "y one", "x1")]
        above = helper.make_node("RNN", ["x1", "R", "R", "B"], ["y1"], "upper", hidden_size=H, activations=[upper])
        return model_of([*nodes, above], weights("RNN") | {"one": np.array([1])})

    assert len(from_onnx_cell(two("Relu"))[1]) == 2
    with pytest.raises(ValueError, match=r"2 RNNs found\. Choose one by node: 'node', 'upper'"):
        from_onnx_cell(two("Tanh"))
    assert from_onnx_cell(two("Tanh"), "upper")[0] == jaxlstm.cells.RNN


def test_lstms_are_preferred_and_others_chosen_by_name():
    both = model("LSTM")
    arrays = {f"{name}g": array for name, array in weights("GRU").items()}
    gru = helper.make_node("GRU", ["x", "Wg", "Rg", "Bg"], ["z"], "gru", hidden_size=H, linear_before_reset=1)
    both = model_of([*both.graph.node, gru], weights("LSTM") | arrays)
    assert from_onnx(both)[0][0].weight_hh.shape == (4 * H, H)
    assert from_onnx(both, "gru")[0][0].weight_hh.shape == (3 * H, H)
