"""`jaxlstm convert` and `jaxlstm inspect`. What needs torch, the `.pt` files, stands in against_torch/."""

import importlib
import itertools
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result
from trees import assert_identical

import jaxlstm
from jaxlstm.cli.convert import convert, inspect
from jaxlstm.interop import _files, from_torch, load_safetensors, save_safetensors, to_torch
from jaxlstm.interop._keras import from_keras
from jaxlstm.interop._onnx import from_onnx

pytestmark = [
    pytest.mark.usefixtures("keras"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

I, H = 3, 4  # noqa: E741
STACK: Any = jaxlstm.init_lstm(jax.random.key(0), I, H, num_layers=2, bidirectional=True)
CELL: Any = jaxlstm.init_lstm_cell(jax.random.key(1), I, H)
ENDINGS = ("safetensors", "npz", "onnx", "h5", "keras")


def run(command: Any, *words: str | Path) -> Result:
    return CliRunner().invoke(command, list(map(str, words)))


def done(command: Any, *words: str | Path) -> str:
    result = run(command, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(command: Any, *words: str | Path) -> str:
    """The one error that a command ends in."""
    result = run(command, *words)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    return result.output.partition("Error: ")[2].strip()


def read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    if path.suffix == ".onnx":
        return from_onnx(path)
    if path.suffix == ".npz":
        return from_torch(dict(np.load(path, allow_pickle=False)))
    return from_keras(path, ["lstm_l0", "lstm_l1"])


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ENDINGS, repeat=2)))
def test_every_format_to_every_other(first, second, tmp_path):
    there, back = tmp_path / f"there.{first}", tmp_path / f"back.{second}"
    _files.save(STACK, there)
    choice = ["--node", "lstm_l0", "--node", "lstm_l1"] if first in ("h5", "keras") else []
    words = done(convert, there, back, *choice)
    only = f"Only the LSTM is converted: whatever else {there} holds is not in it."
    assert words == f"{back}: LSTM, layers 2, directions 2, sizes 3 to 4, float32.\n{only}\n"
    if {first, second} & {"h5", "keras"}:  # where two biases have become one
        x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2, I)), jnp.float32)
        for got, want in zip(jaxlstm.lstm(read(back), x), jaxlstm.lstm(STACK, x), strict=True):
            np.testing.assert_allclose(jnp.stack(got), jnp.stack(want), rtol=0, atol=1e-6)
    else:
        assert_identical(read(back), STACK)
    assert {path.name for path in tmp_path.iterdir()} == {there.name, back.name}


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.bfloat16, jnp.float16])
def test_dtypes_stay_as_they_are(dtype, tmp_path):
    with jax.enable_x64(True):
        params = jaxlstm.init_lstm(jax.random.key(0), I, H, proj_size=2, dtype=dtype)
        save_safetensors(params, tmp_path / "in.safetensors")
    done(convert, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    with jax.enable_x64(True):
        assert_identical(load_safetensors(tmp_path / "out.safetensors"), params)


def larger_model(path: Path) -> None:
    """Two LSTMs, a cell, and what is none."""
    leaves = {f"encoder.lstm.{name}": leaf for name, leaf in to_torch(STACK).items()}
    leaves |= {f"cell.{name}": leaf for name, leaf in to_torch(CELL).items()}
    leaves |= {"weight_ih_l0": np.ones((4 * H, I), np.float16), "weight_hh_l0": np.ones((4 * H, 2), np.float16)}
    leaves |= {"weight_hr_l0": np.ones((2, H), np.float16)}
    leaves |= {"gru.weight_ih_l0": np.ones((3 * H, I), "f"), "gru.weight_hh_l0": np.ones((3 * H, H), "f")}
    leaves |= {"rnn.weight_ih": np.ones((H, I), "f"), "rnn.weight_hh": np.ones((H, H), "f")}
    leaves |= {"linear.weight": np.ones((2, H), "f"), "broken.weight_ih_l0": np.ones((4 * H, I), "f")}
    safetensors.numpy.save_file(leaves, path)


TABLE = {
    "encoder.lstm": "LSTM 2 2 3 to 4 float32",
    "cell": "LSTM 1 1 3 to 4 float32",
    '""': "LSTM 1 1 3 to 4, projected to 2, no bias float16",
    "gru": "GRU 1 1 3 to 4, no bias float32",
    "rnn": "RNN 1 1 3 to 4, no bias float32 nothing tells its nonlinearity, which is taken for tanh",
    "broken": "broken.weight_hh_l0: missing",
}


def test_inspect_lists_the_lstms_of_a_larger_model(tmp_path):
    path = tmp_path / "model.safetensors"
    larger_model(path)
    rows = {row.split()[0]: " ".join(row.split()[1:]) for row in done(inspect, path).splitlines() if row.split()}
    for name, words in TABLE.items():
        assert words in rows.pop(name)
    assert set(rows) == {"name", next(name for name in rows if set(name) == {"─"})}


def test_convert_asks_to_choose_and_takes_the_choice(tmp_path):
    path, out = tmp_path / "model.safetensors", tmp_path / "out.npz"
    larger_model(path)
    result = run(convert, path, out)
    assert all(name in result.stdout for name in TABLE)  # LSTMs are preferred, and all there is is shown.
    assert "4 LSTMs found. Choose one by --prefix: 'broken', 'cell', 'encoder.lstm', ''." in result.output
    assert result.exit_code == 2
    assert not out.exists()

    words = done(convert, path, out, "--prefix", "encoder.lstm").splitlines()
    assert words[1:] == [
        f"Only the LSTM is converted: whatever else {path} holds is not in it.",
        "Its names are without the prefix 'encoder.lstm.'.",
    ]
    assert_identical(read(out), STACK)
    done(convert, path, out, "--prefix", "cell")
    assert_identical(read(out), CELL)
    assert "prefix" not in done(convert, path, tmp_path / "out.onnx", "--prefix", "cell")
    assert_identical(from_onnx(tmp_path / "out.onnx"), ((CELL,),))
    done(convert, path, out, "--prefix", "")
    assert read(out)[0][0].weight_hr.shape == (2, H)
    assert ": GRU, layers 1, directions 1, sizes 3 to 4, no bias, float32." in done(
        convert, path, out, "--prefix", "gru"
    )
    assert read(out)[0][0].weight_hh.shape == (3 * H, H)


@pytest.mark.parametrize("cell", [jaxlstm.cells.GRU, jaxlstm.cells.RNN], ids=["GRU", "RNN"])
def test_a_gru_and_an_rnn_go_through_every_format(cell, tmp_path):
    params: Any = jaxlstm.init_fold(jax.random.key(0), cell, I, H, num_layers=2, bidirectional=True)
    if cell == jaxlstm.cells.RNN:  # Whose two biases Keras keeps as one.
        params = tuple(tuple(each._replace(bias_hh=jnp.zeros(H)) for each in cells) for cells in params)
    save_safetensors(params, tmp_path / "0.safetensors")
    source = tmp_path / "0.safetensors"
    for k, ending in enumerate(("onnx", "keras", "npz", "h5", "safetensors"), 1):
        target = tmp_path / f"{k}.{ending}"
        kind = "GRU" if cell == jaxlstm.cells.GRU else "RNN"
        assert f"{target}: {kind}, layers 2, directions 2, sizes 3 to 4" in done(convert, source, target)
        source = target
    assert_identical(load_safetensors(source), params)


def test_layers_are_stacked_by_naming_them_in_turn(tmp_path):
    path = tmp_path / "model.onnx"
    _files.save(STACK, path)
    done(convert, path, tmp_path / "upper.safetensors", "--node", "lstm_l1")
    assert_identical(load_safetensors(tmp_path / "upper.safetensors"), STACK[1:])
    single = jaxlstm.init_lstm(jax.random.key(0), H, H)
    _files.save((*single, *single), tmp_path / "model.keras")
    done(convert, tmp_path / "model.keras", tmp_path / "both.onnx", "--node", "lstm_l0", "--node", "lstm_l1")
    assert len(from_onnx(tmp_path / "both.onnx")) == 2


def test_direction_that_no_parameter_tells_is_told(tmp_path):
    keras = importlib.import_module("keras")  # Here, once its backend is chosen.
    model = keras.Sequential([keras.Input((None, I)), keras.layers.LSTM(H, go_backwards=True)])
    model.save(tmp_path / "model.keras")
    assert "runs over time in reverse only" in done(inspect, tmp_path / "model.keras")
    assert "runs over time in reverse only" in done(convert, tmp_path / "model.keras", tmp_path / "out.npz")


def broken(case: str, path: Path) -> None:
    leaves = to_torch(STACK)
    if case == "NaN":
        leaves["bias_hh_l1"][3] = np.nan
    if case == "missing":
        del leaves["weight_ih_l0"]
    if case == "surplus":
        leaves["weight_xx_l0"] = leaves["bias_ih_l0"]
    if case == "shape":
        leaves["weight_hh_l1_reverse"] = leaves["weight_hh_l1_reverse"].T.copy()
    if case == "dtype":
        leaves["bias_ih_l0"] = leaves["bias_ih_l0"].astype(np.int32)
    if path.suffix == ".npz":
        np.savez(path, **leaves)  # pyright: ignore[reportArgumentType]: none is called allow_pickle
    else:
        safetensors.numpy.save_file(leaves, path)


BROKEN = {
    "NaN": "bias_hh_l1: NaN or Inf among the weights",
    "missing": "weight_ih_l0: missing",
    "surplus": "weight_xx_l0: not a parameter of this LSTM",
    "shape": "weight_hh_l1_reverse: expected [4H, P] = [16, 4], got [4, 16]",
    "dtype": "bias_ih_l0: expected one of float32",
}


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize("case", BROKEN)
def test_bad_parameters_end_in_one_error_of_file_and_key(case, ending, tmp_path):
    path, out = tmp_path / f"model.{ending}", tmp_path / "out.onnx"
    broken(case, path)
    out.write_bytes(b"before")
    assert refused(convert, path, out).startswith(f"{path}: {BROKEN[case]}")
    assert out.read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 2


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


HOSTILE_NPZ = {
    "terabytes": (
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}\n"),
        "claims [1000000, 1000000] of float32, got 0 bytes",
    ),
    "objects": (
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"cos\nabort\n(tR."),
        "claims [1] of object",
    ),
    "code in the header": (npy(b"__import__('os').abort()\n"), ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("case", HOSTILE_NPZ)
def test_hostile_npz_files_are_refused_without_taking_memory(case, tmp_path):
    path = tmp_path / "model.npz"
    data, words = HOSTILE_NPZ[case]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight_ih_l0.npy", data)
    tracemalloc.start()
    assert refused(inspect, path).startswith(f"{path}: weight_ih_l0.npy: {words}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"<html>"], ids=["empty", "truncated zip", "foreign"])
def test_files_that_are_not_what_they_are_called_are_named(ending, data, tmp_path):
    path = tmp_path / f"model.{ending}"
    path.write_bytes(data)
    for command, words in ((inspect, [path]), (convert, [path, tmp_path / "out.npz"])):
        assert refused(command, *words).startswith(f"{path}: ")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_done_is_said_in_one_error(tmp_path):
    path = tmp_path / "model.safetensors"
    larger_model(path)
    for command, words in ((inspect, ()), (convert, [tmp_path / "a.npz"])):
        absent = tmp_path / "absent.onnx"
        assert refused(command, absent, *words) == f"{absent}: No such file or directory."
    assert refused(inspect, tmp_path / "model.txt").startswith(f"{tmp_path}/model.txt: expected a name that ends in")
    assert refused(convert, path, tmp_path / "out.txt").startswith(f"{tmp_path}/out.txt: expected a name that ends in")
    words = f"{path}: --prefix: no LSTM 'x', only"
    assert refused(convert, path, tmp_path / "a.npz", "--prefix", "x").startswith(words)
    assert refused(convert, path, tmp_path / "a.npz", "--node", "x") == f"{path}: its LSTM is chosen by --prefix."
    folder = tmp_path / "no"  # It is missed before IN is read.
    assert refused(convert, absent, folder / "a.npz") == f"{folder}/a.npz: there is no folder {folder}. Make it first."
    assert "projection" in refused(convert, path, tmp_path / "a.onnx", "--prefix", "")
    assert "projection" in refused(convert, path, tmp_path / "a.keras", "--prefix", "")
    safetensors.numpy.save_file({"linear.weight": np.ones((2, H), "f")}, path)
    assert refused(inspect, path) == f"{path}: no LSTM found, nor a GRU or RNN."
    save_safetensors(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), STACK), path)
    assert "bfloat16, which npz files have not" in refused(convert, path, tmp_path / "a.npz")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("ending", "library", "install"),
    [
        ("pt", "torch", "torch"),
        ("onnx", "onnx", "'jaxlstm[onnx]'"),
        ("h5", "keras", "'jaxlstm[keras]'"),
        ("keras", "keras", "'jaxlstm[keras]'"),
    ],
)
def test_missing_libraries_are_named(ending, library, install, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / "in.npz"
    _files.save(STACK, path)
    assert refused(convert, path, tmp_path / f"out.{ending}").endswith(f"needs {library}: pip install {install}")
    assert [each.name for each in tmp_path.iterdir()] == ["in.npz"]
    with pytest.raises(FileNotFoundError):
        _files.find(tmp_path / f"absent.{ending}")
