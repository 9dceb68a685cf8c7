"""PyTorch's own files and graphs: `.pt` checkpoints, among them hostile ones, and what its ONNX exporter writes."""

import os
import pickle
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from mutate import COUNT, count_survivors
from trees import assert_identical

import jaxlstm
from jaxlstm.cli.convert import convert, inspect
from jaxlstm.interop import from_onnx_cell, from_torch, load_safetensors
from jaxlstm.interop._onnx import from_onnx

I, H = 3, 4  # noqa: E741


def refused(command: Any, *words: Path) -> str:
    """The one error that a command ends in."""
    result = CliRunner().invoke(command, list(map(str, words)))
    assert result.exit_code == 2
    return result.output.partition("Error: ")[2].strip()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ending", ["pt", "pth"])
def test_checkpoints_there_and_back(legacy, dtype, ending, tmp_path):
    """From dictionaries within dictionaries, as training scripts write them, value for value."""
    module = torch.nn.LSTM(I, H, num_layers=2, bidirectional=True, proj_size=2, dtype=dtype)
    checkpoint = {"epoch": 3, "model": {f"rnn.{k}": v for k, v in module.state_dict().items()}, "optimizer": {"lr": []}}
    path, middle, back = (tmp_path / name for name in (f"in.{ending}", "middle.safetensors", f"out.{ending}"))
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    for words in ([path, middle, "--prefix", "model.rnn"], [middle, back]):
        assert CliRunner().invoke(convert, list(map(str, words))).exit_code == 0
    loaded = torch.load(back, weights_only=True)
    assert list(loaded) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert loaded[name].dtype == dtype
        assert torch.equal(loaded[name], tensor)


def test_a_cell_stays_a_cell(tmp_path):
    torch.save(torch.nn.LSTMCell(I, H, bias=False).state_dict(), tmp_path / "in.pt")
    CliRunner().invoke(convert, [str(tmp_path / "in.pt"), str(tmp_path / "out.safetensors")])
    assert isinstance(load_safetensors(tmp_path / "out.safetensors"), jaxlstm.LSTMCellParams)


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def hostile(case: str, path: Path) -> None:
    module = torch.nn.LSTM(I, H)
    state = module.state_dict()
    if case == "code":
        torch.save({"a": Code(path.parent / "ran")}, path)
    elif case == "code, as plain pickle":
        path.write_bytes(pickle.dumps({"a": Code(path.parent / "ran")}))
    elif case == "a whole module":
        torch.save(module, path)
    elif case == "terabytes":
        state["weight_ih_l0"] = torch.zeros(1).expand(4 * H, 10**11)
        torch.save(state, path)
    elif case == "endless dictionaries":
        node: dict[str, Any] = {}
        for _ in range(50):
            node = {"a": node, "b": node}
        torch.save(node, path)
    elif case == "sparse":
        state["weight_ih_l0"] = torch.sparse_coo_tensor(
            torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), (16, 10**11)
        )
        torch.save(state, path)
    elif case == "NaN":
        state["bias_hh_l0"][2] = torch.nan
        torch.save(state, path)
    elif case == "integers":
        torch.save({name: tensor.to(torch.int8) for name, tensor in state.items()}, path)
    elif case == "a path out":
        torch.save({f"../../{name}": tensor for name, tensor in state.items()} | {"../../x": state["bias_ih_l0"]}, path)
    else:
        torch.save(state, path)
        path.write_bytes({"truncated": path.read_bytes()[:-100], "empty": b"", "foreign": b"<html>"}[case])


HOSTILE = {
    "code": "not read: it is broken, or holds more than tensors",
    "code, as plain pickle": "not read: it is broken, or holds more than tensors",
    "a whole module": "not read: it is broken, or holds more than tensors",
    "terabytes": "weight_ih_l0: claims [16, 100000000000], which is more than the file holds",
    "endless dictionaries": "more than 100000 entries",
    "sparse": "weight_ih_l0: ",
    "NaN": "bias_hh_l0: NaN or Inf among the weights",
    "integers": "weight_ih_l0: expected one of float32",
    "a path out": "no LSTM found",
    "truncated": "not read: it is broken",
    "empty": "not read: it is broken",
    "foreign": "not read: it is broken",
}


@pytest.mark.parametrize("case", HOSTILE)
# PyTorch itself says that its sparse tensors are in beta.
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")
def test_hostile_checkpoints_end_in_one_error_of_file_and_key(case, tmp_path):
    path = tmp_path / "model.pt"
    hostile(case, path)
    assert refused(convert, path, tmp_path / "out.npz").startswith(f"{path}: {HOSTILE[case]}")
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_mutated_checkpoints_end_in_one_named_error(legacy, bidirectional, tmp_path):
    path = tmp_path / "model.pt"
    module = torch.nn.LSTM(2, 2, bidirectional=bidirectional)
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    assert count_survivors(path) < COUNT * 0.7


@pytest.fixture(scope="module")
def silero() -> Path:
    return Path(str(distribution("silero-vad").locate_file("silero_vad/data")))


# torch.jit is on its way out, but it is what the package's file is written in.
@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("branch", "prefix"), [("then", "_model"), ("else", "_model_8k")])
def test_silero_is_the_same_from_onnx_and_from_torchscript(silero, branch, prefix):
    """Nodes two subgraphs deep, whose weights are cut and joined by other nodes."""
    theirs = from_torch(torch.jit.load(str(silero / "silero_vad.jit")).state_dict(), f"{prefix}.decoder.rnn")
    names = [
        f"If_0_{way}_branch__Inline_0__/decoder/{rnn}/LSTM" for way in ("then", "else") for rnn in ("rnn", "rnn_1")
    ]
    with pytest.raises(ValueError, match="4 LSTMs found") as error:
        from_onnx(silero / "silero_vad.onnx")
    assert all(name in str(error.value) for name in names)
    ours = [from_onnx(silero / "silero_vad.onnx", node=name) for name in names if f"_{branch}_" in name]
    for params in ours:
        assert_identical(params, ((theirs,),))


def test_torchscript_programs_are_refused(silero, tmp_path):
    path = tmp_path / "silero.pt"
    path.symlink_to(silero / "silero_vad.jit")
    assert refused(inspect, path).startswith(f"{path}: a TorchScript program")


# That exporter is the one whose graphs have LSTM nodes and which needs no more packages; it is on its way out.
EXPORTERS_WARNINGS = (
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore:Exporting a model to ONNX with a batch_size other than 1, with a variable length with:UserWarning",
    "ignore:Converting a tensor to a Python boolean might cause the trace to be incorrect:torch.jit.TracerWarning",
)


@pytest.mark.filterwarnings(*EXPORTERS_WARNINGS)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_graphs_of_torchs_own_exporter(num_layers, bidirectional, batch_first, bias, tmp_path):
    module = torch.nn.LSTM(I, H, num_layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias)
    torch.onnx.export(module, (torch.zeros(5, 2, I),), tmp_path / "lstm.onnx", dynamo=False)
    assert sum(node.op_type == "LSTM" for node in onnx.load(tmp_path / "lstm.onnx").graph.node) == num_layers
    assert_identical(from_onnx(tmp_path / "lstm.onnx"), from_torch(module))


@pytest.mark.filterwarnings(*EXPORTERS_WARNINGS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    "kind", [torch.nn.GRU, torch.nn.RNN, partial(torch.nn.RNN, nonlinearity="relu")], ids=["GRU", "RNN", "relu"]
)
def test_its_graphs_of_other_cells(kind, bidirectional, tmp_path):
    module, x = kind(I, H, 2, bidirectional=bidirectional), torch.randn(5, 2, I)
    torch.onnx.export(module, (x,), tmp_path / "model.onnx", dynamo=False)
    cell, params = from_onnx_cell(tmp_path / "model.onnx")
    assert len(params) == 2
    assert_identical(params, from_torch(module.state_dict()))
    output, (h_n,) = jaxlstm.fold(cell, params, jnp.asarray(x.numpy()))
    for got, expected in zip((output, h_n), module(x), strict=True):
        np.testing.assert_allclose(got, expected.detach(), rtol=0, atol=2e-6)
