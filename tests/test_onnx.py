"""ONNX, in and out, judged by ONNX's own test cases and by ONNX Runtime."""

import itertools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx_graphs import H, I, lstm, make, model_of
from trees import assert_close, assert_identical

import jaxlstm
from jaxlstm.interop._onnx import from_onnx
from jaxlstm.interop._onnx_export import to_onnx

onnxruntime.set_default_logger_severity(3)  # It logs that our optional inputs are no constants.

STACKS = list(itertools.product((1, 3), (False, True), (True, False)))


def stack(num_layers=1, bidirectional=False, bias=True, seed=0, **options) -> Any:
    return jaxlstm.init_lstm(jax.random.key(seed), I, H, num_layers, bidirectional=bidirectional, bias=bias, **options)


def session(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), STACKS)
def test_round_trip(num_layers, bidirectional, bias, tmp_path):
    params = stack(num_layers, bidirectional, bias)
    to_onnx(params, tmp_path / "lstm.onnx")
    assert_identical(from_onnx(tmp_path / "lstm.onnx"), params)
    assert_identical(from_onnx(str(tmp_path / "lstm.onnx"), node="lstm_l0"), params)
    assert_identical(from_onnx((tmp_path / "lstm.onnx").read_bytes()), params)
    assert_identical(from_onnx(onnx.load(tmp_path / "lstm.onnx")), params)
    if num_layers == 3:  # a node that is not the first begins a stack of those above
        assert_identical(from_onnx(tmp_path / "lstm.onnx", node="lstm_l1"), params[1:])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("num_layers", "bidirectional", "bias"), STACKS)
def test_200_random_ragged_cases_agree_with_onnx_runtime(num_layers, bidirectional, bias, batch_first, tmp_path):
    """13 in each of the 16 corners of the grid; three in four leave an optional input out."""
    run = jax.jit(jaxlstm.lstm, static_argnames="batch_first")
    random = np.random.default_rng([num_layers, bidirectional, bias, batch_first])
    num_steps, batch = random.integers(1, 9, 2)
    x_shape = (batch, num_steps, I) if batch_first else (num_steps, batch, I)
    state_shape = (num_layers * (1 + bidirectional), batch, H)
    for seed in range(13):
        params = stack(num_layers, bidirectional, bias, seed)
        to_onnx(params, tmp_path / "lstm.onnx", batch_first=batch_first)
        x, h, c = (random.normal(size=shape).astype(np.float32) for shape in (x_shape, state_shape, state_shape))
        lengths = random.integers(0, num_steps + 1, batch, np.int32)  # 0 too
        given = {"x": x, "sequence_lens": lengths, "h_0": h, "c_0": c}
        left_out = [None, "sequence_lens", "h_0", "c_0"][seed % 4]
        expected = session(tmp_path / "lstm.onnx").run(None, {k: v for k, v in given.items() if k != left_out})
        given |= {"sequence_lens": np.full(batch, num_steps)} if left_out == "sequence_lens" else {}
        given |= {left_out: np.zeros_like(h)} if left_out in ("h_0", "c_0") else {}
        state = (given["h_0"], given["c_0"])
        got = run(params, x, state, lengths=given["sequence_lens"], batch_first=batch_first)
        assert_close(jax.tree.leaves(got), expected, atol=1e-5)


def test_exported_model_takes_any_batch_and_time(tmp_path):
    params = stack(2, bidirectional=True)
    to_onnx(params, tmp_path / "lstm.onnx")
    runtime = session(tmp_path / "lstm.onnx")
    assert [given.name for given in runtime.get_inputs()] == ["x"]
    assert [given.name for given in runtime.get_overridable_initializers()] == ["sequence_lens", "h_0", "c_0"]
    for shape in ((1, 1, I), (7, 2, I), (2, 5, I)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        got = jax.tree.leaves(jaxlstm.lstm(params, jnp.asarray(x)))
        assert_close(got, runtime.run(None, {"x": x}))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_exported_value_for_value(dtype, tmp_path):
    params = stack(dtype=dtype)
    to_onnx(params, tmp_path / "lstm.onnx")
    assert_identical(from_onnx(tmp_path / "lstm.onnx"), jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))


def with_constants(case) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A case of ONNX's, which feeds the weights in, with these as initializers; and what remains to be fed in."""
    (given, _), *_ = case.data_sets
    given = dict(zip((value.name for value in case.model.graph.input), given, strict=True))
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    weights = {name: given.pop(name) for name in "WRBP" if name in given}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model, given


def backend_cases() -> list:
    with warnings.catch_warnings():
        # Gathering them makes the data of every operator's cases, with overflows and in numpy's old ways.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return collect_testcases("LSTM")


@pytest.mark.parametrize("case", backend_cases(), ids=lambda case: case.name)
def test_onnx_backend_cases(case):
    model, given = with_constants(case)
    (node,) = model.graph.node
    if case.name == "test_lstm_with_peepholes":
        with pytest.raises(ValueError, match="LSTM node 'Y_h': P: this node has peephole weights"):
            from_onnx(model)
        return
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    params = from_onnx(model)
    x = jnp.asarray(given["X"])
    if attributes.get("direction") == b"reverse":
        x = x[::-1]
    batch_first = attributes.get("layout") == 1
    y, (h, c) = jaxlstm.lstm(params, x, batch_first=batch_first)
    results = {"Y": y[..., None, :] if batch_first else None, "Y_h": h, "Y_c": c}
    (_, expected), *_ = case.data_sets
    for name, want in zip(filter(None, node.output), expected, strict=True):
        got = jnp.swapaxes(results[name], 0, 1) if batch_first and name != "Y" else results[name]
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_tensors_beside_the_model_are_read_from_its_folder_only(location, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    model = lstm()
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "W")
    for place in (folder, tmp_path):
        (place / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = folder / "lstm.onnx"
    path.write_bytes(model.SerializeToString())
    if location == "weights.bin":
        assert_identical(from_onnx(path), from_onnx(lstm()))
    else:
        with pytest.raises(ValueError, match=f"^{path}: LSTM node 'node': W: "):
            from_onnx(path)
    with pytest.raises(ValueError, match="LSTM node 'node': W: 'W' is kept in a file beside the model"):
        from_onnx(path.read_bytes())


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"<html>", bytes(100)], ids=["empty", "zip", "html", "zeros"])
def test_files_that_are_no_onnx_model_are_named(data, tmp_path):
    path = tmp_path / "lstm.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path}: not"):
        from_onnx(path)


def test_no_such_node_or_none_at_all():
    with pytest.raises(ValueError, match="node: no LSTM 'other', only 'node'"):
        from_onnx(lstm(), node="other")
    with pytest.raises(ValueError, match="no LSTM found"):
        from_onnx(model_of([make("Tanh", "x", "y")], {}))
    with pytest.raises(ValueError, match=r"expected a path, bytes or an onnx\.ModelProto, got NoneType"):
        from_onnx(None)
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        from_onnx("absent.onnx")


def test_exports_that_onnx_has_no_words_for(tmp_path):
    path = tmp_path / "lstm.onnx"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"params: expected no projection.*weight_hr \[2, 4\].*ONNX's LSTM has none"):
        to_onnx(stack(proj_size=2), path)
    with jax.enable_x64(True), pytest.raises(ValueError, match=r"params: .* got float64"):
        to_onnx(stack(dtype=jnp.float64), path)
    with pytest.raises(TypeError, match="params: expected LSTMParams"):
        to_onnx(stack()[0][0], path)
    assert [each.name for each in tmp_path.iterdir()] == ["lstm.onnx"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("call", [from_onnx, lambda path: to_onnx(stack(), path)], ids=["from_onnx", "to_onnx"])
def test_missing_library_is_named(call, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs onnx: pip install 'jaxlstm\[onnx\]'"):
        call(tmp_path / "lstm.onnx")
