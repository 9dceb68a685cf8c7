"""PyTorch's names and safetensors files, in and out; what needs torch itself stands in against_torch/."""

import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from trees import assert_identical

import jaxlstm
from jaxlstm._names import flatten
from jaxlstm.interop import from_torch, load_safetensors, save_safetensors, to_torch

FLOATS = [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float64]

PARAMS: dict[str, Any] = {
    "plain": jaxlstm.init_lstm(jax.random.key(0), 3, 5),
    "everything": jaxlstm.init_lstm(jax.random.key(0), 3, 5, num_layers=3, bidirectional=True, proj_size=2),
    "no bias": jaxlstm.init_lstm(jax.random.key(0), 3, 5, num_layers=2, bias=False),
    "cell": jaxlstm.init_lstm_cell(jax.random.key(0), 3, 5),
    "GRU": jaxlstm.init_gru(jax.random.key(0), 3, 5, num_layers=2, bidirectional=True),
    "GRU cell": jaxlstm.init_gru_cell(jax.random.key(0), 3, 5, bias=False),
    "RNN": jaxlstm.init_fold(jax.random.key(0), jaxlstm.cells.RNN, 3, 5, num_layers=2),
    "projected GRU": jaxlstm.init_fold(jax.random.key(0), jaxlstm.cells.GRU, 3, 5, proj_size=2),
    "projected cell": jaxlstm.init_lstm_cell(jax.random.key(0), 3, 5, bias=False, proj_size=2),
}


def via_file(params, tmp_path, prefix=""):
    save_safetensors(params, tmp_path / "lstm.safetensors")
    return load_safetensors(tmp_path / "lstm.safetensors", prefix)


@pytest.mark.parametrize("kind", PARAMS)
def test_round_trip_of_every_kind(kind, tmp_path):
    params = PARAMS[kind]
    leaves = to_torch(params)
    assert list(leaves) == list(flatten(params))
    assert_identical(from_torch(leaves), params)
    assert_identical(from_torch(flatten(params)), params)  # JAX arrays
    assert_identical(via_file(params, tmp_path), params)


@pytest.mark.parametrize("dtype", FLOATS)
def test_round_trip_of_every_dtype(dtype, tmp_path):
    with jax.enable_x64(dtype == jnp.float64):
        special = jnp.array([np.nan, -0.0, np.inf, jnp.finfo(dtype).smallest_subnormal], dtype)
        params = jaxlstm.init_lstm_cell(jax.random.key(0), 3, 1, dtype=dtype)._replace(bias_ih=special)
        assert_identical(from_torch(to_torch(params)), params)
        # In a file they say that a training run broke.
        with pytest.raises(ValueError, match=r"lstm\.safetensors: bias_ih: NaN or Inf among the weights"):
            via_file(params, tmp_path)
        params = params._replace(bias_ih=special.at[jnp.array([0, 2])].set(jnp.finfo(dtype).max))
        assert_identical(via_file(params, tmp_path), params)


def test_float64_becomes_float32_without_x64():
    leaves = {name: leaf.astype(np.float64) + 1e-12 for name, leaf in to_torch(PARAMS["plain"]).items()}
    assert_identical(from_torch(leaves), jax.tree.map(lambda leaf: leaf + 0.0, PARAMS["plain"]))


def test_arrays_are_copies_that_torch_and_files_can_use(tmp_path):
    leaves = {name: np.asfortranarray(leaf) for name, leaf in to_torch(PARAMS["plain"]).items()}
    params = from_torch(leaves)
    for leaf in leaves.values():
        leaf += 1
    assert_identical(params, PARAMS["plain"])

    by_column: Any = jax.tree.map(np.asfortranarray, PARAMS["plain"])
    for leaf in to_torch(by_column).values():
        assert leaf.flags.writeable
        assert leaf.flags.c_contiguous
    assert_identical(via_file(by_column, tmp_path), PARAMS["plain"])


@pytest.fixture
def model() -> dict[str, np.ndarray]:
    """A larger model's state_dict."""
    return {
        "embedding.weight": np.ones((7, 3), np.float32),
        "steps": np.ones((), np.int64),
        **{f"encoder.lstm.{name}": leaf for name, leaf in to_torch(PARAMS["everything"]).items()},
        **{f"encoder.lstm_2.{name}": leaf for name, leaf in to_torch(PARAMS["no bias"]).items()},
        **{f"cell.{name}": leaf for name, leaf in to_torch(PARAMS["cell"]).items()},
    }


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [("encoder.lstm", "everything"), ("encoder.lstm.", "everything"), ("encoder.lstm_2", "no bias"), ("cell", "cell")],
)
def test_prefix_picks_one_layer(model, prefix, kind, tmp_path):
    assert_identical(from_torch(model, prefix), PARAMS[kind])
    assert_identical(from_torch(model, prefix=prefix), PARAMS[kind])
    safetensors.numpy.save_file(model, tmp_path / "model.safetensors")
    assert_identical(load_safetensors(tmp_path / "model.safetensors", prefix=prefix), PARAMS[kind])


def without(*names):
    return lambda leaves: {k: v for k, v in leaves.items() if k not in names}


def with_leaf(name, leaf):
    return lambda leaves: {**leaves, name: leaf}


def ones(*shape, dtype: Any = np.float32):
    return np.ones(shape, dtype)


MALFORMED = {
    # the kind of LSTM, what is done to its leaves, the error, the words
    "no layer 0": ("no bias", without("weight_ih_l0"), ValueError, "m.weight_ih_l0: missing"),
    "one bias": ("plain", without("bias_hh_l0"), ValueError, "m.bias_hh_l0: missing"),
    "a gap": ("no bias", with_leaf("weight_ih_l3", ones(20, 5)), ValueError, "m.weight_ih_l2: missing"),
    "a far layer": ("no bias", with_leaf("weight_ih_l9999", ones(20, 5)), ValueError, "m.weight_ih_l2: missing"),
    "bias in one layer": ("no bias", with_leaf("bias_ih_l1", ones(20)), ValueError, "m.bias_ih_l0: missing"),
    "half a direction": (
        "no bias",
        with_leaf("weight_ih_l0_reverse", ones(20, 3)),
        ValueError,
        "m.weight_hh_l0_reverse: missing",
    ),
    "one projection": ("everything", without("weight_hr_l1_reverse"), ValueError, "m.weight_hr_l1_reverse: missing"),
    "a cell without weight_hh": ("cell", without("weight_hh"), ValueError, "m.weight_hh: missing"),
    "another layer's": ("plain", with_leaf("linear.weight", ones(2, 5)), ValueError, "m.linear.weight: not a param"),
    "leading zero": ("plain", with_leaf("weight_ih_l01", ones(20, 5)), ValueError, "m.weight_ih_l01: not a param"),
    "cell and stack": ("plain", with_leaf("weight_ih", ones(20, 3)), ValueError, "m.weight_ih: not a param"),
    "an integer": ("plain", with_leaf("bias_ih_l0", ones(20, dtype=np.int8)), TypeError, "m.bias_ih_l0: expected one"),
    "a scalar": ("plain", with_leaf("weight_ih_l0", ones()), ValueError, r"m.weight_ih_l0: expected \[G\*H, I\]"),
    "not gates": ("plain", with_leaf("weight_ih_l0", ones(18, 3)), ValueError, r"m.weight_ih_l0: .* got \[18, 3\]"),
    "no hidden": ("plain", with_leaf("weight_ih_l0", ones(0, 3)), ValueError, r"m.weight_ih_l0: .* got \[0, 3\]"),
    "two gates": (
        "no bias",
        lambda _: {"weight_ih_l0": ones(8, 3), "weight_hh_l0": ones(8, 4)},
        ValueError,
        r"m.weight_hh_l0: .* H = 4 with rows of 16 \(LSTM\) or 12 \(GRU\) or 4 \(RNN\), got \[8, 4\]",
    ),
    "an LSTM on a GRU": (
        "no bias",
        lambda leaves: leaves | {"weight_ih_l0": ones(15, 3), "weight_hh_l0": ones(15, 5)},
        ValueError,
        r"m.weight_ih_l1: expected \[3H, I\] = \[15, 5\], got \[20, 5\]",
    ),
    "transposed": (
        "everything",
        with_leaf("weight_ih_l2_reverse", ones(4, 20)),
        ValueError,
        r"m.weight_ih_l2_reverse: expected \[4H, I\] = \[20, 4\], got \[4, 20\]",
    ),
    "too wide a projection": (
        "everything",
        with_leaf("weight_hr_l0", ones(5, 5)),
        ValueError,
        r"m.weight_hr_l0: expected \[P, H\] with 0 < P < H = 5, got \[5, 5\]",
    ),
    "another size above": (
        "no bias",
        with_leaf("weight_hh_l1", ones(16, 4)),
        ValueError,
        r"m.weight_hh_l1: .* \[20, 5\]",
    ),
    "nothing": ("plain", lambda _: {}, ValueError, "prefix: expected keys that start with 'm.', got none"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_leaves_name_the_key(case, tmp_path):
    kind, change, error, words = MALFORMED[case]
    leaves = {f"m.{name}": leaf for name, leaf in change(to_torch(PARAMS[kind])).items()} | {"other": ones(1)}
    with pytest.raises(error, match=f"^{words}"):
        from_torch(leaves, prefix="m")
    path = tmp_path / "bad.safetensors"
    safetensors.numpy.save_file(leaves, path)
    with pytest.raises(error, match=f"^{path}: {words}"):
        load_safetensors(path, prefix="m")


def test_larger_model_without_prefix_names_those_there_are(model):
    with pytest.raises(ValueError, match=r"embedding.weight: not .* 'cell', 'encoder.lstm', 'encoder.lstm_2'"):
        from_torch(model)
    with pytest.raises(ValueError, match=r"'decoder\.', got none.*'encoder.lstm'"):
        from_torch(model, prefix="decoder")
    with pytest.raises(ValueError, match=r"encoder.lstm.weight_ih_l0: not .* 'encoder.lstm'"):
        from_torch(model, prefix="encoder")


@pytest.mark.parametrize("source", ["model.pt", None, [np.ones((4, 1))]])
def test_sources_that_are_no_mapping(source):
    with pytest.raises(TypeError, match="source: expected a state_dict.* got " + type(source).__name__):
        from_torch(source)


def test_leaves_that_are_no_arrays():
    with pytest.raises(TypeError, match="bias_ih: expected"):
        from_torch({**to_torch(PARAMS["cell"]), "bias_ih": "zeros"})
    with pytest.raises(TypeError, match="bias_hh: expected an array, got PRNGKeyArray"):
        from_torch({**to_torch(PARAMS["cell"]), "bias_hh": jax.random.key(0)})


def test_params_that_lstm_would_refuse(tmp_path):
    writers: Any = (to_torch, lambda params: save_safetensors(params, tmp_path / "bad.safetensors"))
    for write in writers:
        with pytest.raises(TypeError, match="params: expected LSTMParams"):
            write({"weight_ih_l0": ones(20, 3)})
        with pytest.raises(ValueError, match="weight_hh: expected"):
            write(PARAMS["cell"]._replace(weight_hh=ones(20, 6)))
        peepholes = jaxlstm.init_fold(jax.random.key(0), jaxlstm.cells.lstm(peephole=True), 3, 5)
        with pytest.raises(ValueError, match="params: expected those of PyTorch's LSTM, got extra"):
            write(peepholes)
    assert not list(tmp_path.iterdir())


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


WHOLE = safetensors.numpy.save(to_torch(PARAMS["plain"]))
BROKEN = {
    "empty": b"",
    "truncated": WHOLE[:-1],
    "truncated header": WHOLE[:20],
    "foreign": b"PK\x03\x04" + bytes(1000),
    "header of terabytes": struct.pack("<Q", 1 << 42) + b"{}",
    "tensor of terabytes": with_header(
        b'{"weight_ih":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    ),
    "no JSON": with_header(b"{weights}"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(case, tmp_path):
    path = tmp_path / "lstm.safetensors"
    path.write_bytes(BROKEN[case])
    with pytest.raises(ValueError, match=f"^{path}: expected a whole safetensors file"):
        load_safetensors(path)


def test_dtypes_that_numpy_lacks_are_refused_by_key(tmp_path):
    path = tmp_path / "lstm.safetensors"
    leaves = to_torch(PARAMS["cell"]) | {"bias_hh": ones(20).astype(jnp.float8_e4m3fn)}
    safetensors.numpy.save_file(leaves, path)
    with pytest.raises(TypeError, match=f"^{path}: bias_hh: expected one of F64, F32, F16, BF16, got F8_E4M3"):
        load_safetensors(path)


def test_paths_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_safetensors(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        load_safetensors(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        save_safetensors(PARAMS["plain"], tmp_path / "absent" / "lstm.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        save_safetensors(PARAMS["plain"], tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = str(tmp_path / "lstm.safetensors")
    save_safetensors(PARAMS["plain"], path)
    save_safetensors(PARAMS["cell"], path)
    assert_identical(load_safetensors(path), PARAMS["cell"])

    def fail(path, data):
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        save_safetensors(PARAMS["plain"], path)
    assert_identical(load_safetensors(path), PARAMS["cell"])
    assert len(list(tmp_path.iterdir())) == 1
