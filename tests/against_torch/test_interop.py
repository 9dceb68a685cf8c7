"""Weights from real PyTorch modules and back, bit for bit."""

import itertools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from trees import assert_identical

import jaxlstm
from jaxlstm.interop import _files, from_torch, load_safetensors, save_safetensors, to_torch

MODULES = {
    "-".join(map(str, values)): dict(zip(("num_layers", "bias", "bidirectional", "proj_size"), values, strict=True))
    for values in itertools.product((1, 3), (True, False), (False, True), (0, 2))
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def tensors(leaves: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """As to_torch's docstring says."""
    return {
        name: torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
        if a.dtype == jnp.bfloat16
        else torch.from_numpy(a)
        for name, a in leaves.items()
    }


def assert_loads(leaves: dict[str, np.ndarray], module: torch.nn.Module) -> None:
    """That the leaves are the module's state, bit for bit."""
    assert list(leaves) == list(module.state_dict())
    loaded = tensors(leaves)
    for name, tensor in module.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    module.load_state_dict(loaded)


@pytest.mark.parametrize("case", MODULES)
def test_lstm_there_and_back(case, tmp_path):
    module = torch.nn.LSTM(3, 5, **MODULES[case])
    params = from_torch(module)
    assert len(params) == module.num_layers
    assert len(params[0]) == 1 + module.bidirectional
    assert_loads(to_torch(params), module)
    assert_loads(to_torch(from_torch(module.state_dict())), module)
    assert_loads(to_torch(from_torch(dict(module.named_parameters()))), module)  # leaves that require gradients

    safetensors.torch.save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    assert_loads(to_torch(load_safetensors(tmp_path / "theirs.safetensors")), module)
    save_safetensors(params, tmp_path / "ours.safetensors")
    module.load_state_dict(safetensors.torch.load_file(tmp_path / "ours.safetensors"))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cell_of_every_dtype_there_and_back(dtype, bias, tmp_path):
    module = torch.nn.LSTMCell(3, 5, bias, dtype=dtype)
    with jax.enable_x64(dtype == torch.float64):
        params = from_torch(module)
        assert isinstance(params, jaxlstm.LSTMCellParams)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {str(dtype).removeprefix("torch.")}
        assert_loads(to_torch(params), module)
        safetensors.torch.save_file(module.state_dict(), tmp_path / "cell.safetensors")
        assert_loads(to_torch(load_safetensors(tmp_path / "cell.safetensors")), module)


def test_one_layer_of_a_checkpoint_in_four_lines(tmp_path):
    model: Any = torch.nn.ModuleDict(
        {"embedding": torch.nn.Embedding(7, 3), "lstm": torch.nn.LSTM(3, 5, 2, batch_first=True)}
    )
    torch.save(model.state_dict(), tmp_path / "model.pt")

    params = from_torch(torch.load(tmp_path / "model.pt", weights_only=True), prefix="lstm")
    x = torch.randn(2, 6, 3)
    output, _ = jaxlstm.lstm(params, jnp.asarray(x.numpy()), batch_first=True)
    np.testing.assert_allclose(output, model["lstm"](x)[0].detach(), atol=2e-6)
    assert_loads(to_torch(from_torch(model, prefix="lstm")), model["lstm"])
    assert pathlib.Path(tmp_path / "model.pt").exists()


def test_training_on_in_pytorch_leaves_our_copy_alone():
    module = torch.nn.LSTM(3, 5)
    params = from_torch(module)
    before = to_torch(params)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    assert_identical(to_torch(params), before)


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (torch.ones(20, dtype=torch.int8), "bias_ih: expected one of float32, .* got int8"),
        (torch.ones(20, device="meta"), "bias_ih: expected an array, got Tensor"),
        (torch.ones(20).to_sparse(), "bias_ih: expected an array, got Tensor"),
        (torch.ones(20, dtype=torch.float8_e4m3fn), "bias_ih: expected an array, got Tensor"),
    ],
    ids=["int8", "meta", "sparse", "float8"],
)
def test_tensors_that_are_no_floating_arrays(leaf, words):
    with pytest.raises(TypeError, match=words):
        from_torch({**torch.nn.LSTMCell(3, 5).state_dict(), "bias_ih": leaf})


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "GRU": (torch.nn.GRU, torch.nn.GRUCell, jaxlstm.cells.GRU),
    "RNN": (torch.nn.RNN, torch.nn.RNNCell, jaxlstm.cells.RNN),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_gru_and_rnn_there_and_back(kind, num_layers, bidirectional, bias, tmp_path):
    stack, _, cell = KINDS[kind]
    module = stack(3, 5, num_layers, bidirectional=bidirectional, bias=bias)
    params = from_torch(module)
    assert_loads(to_torch(params), module)
    save_safetensors(params, tmp_path / "ours.safetensors")
    assert_loads(to_torch(load_safetensors(tmp_path / "ours.safetensors")), module)
    x = torch.randn(6, 2, 3)
    expected, h_n = module(x)
    output, (h,) = jaxlstm.fold(cell, params, jnp.asarray(x.numpy()))
    np.testing.assert_allclose(output, expected.detach(), atol=2e-6)
    np.testing.assert_allclose(h, h_n.detach(), atol=2e-6)

    torch.save({"model": module.state_dict(prefix="rnn.")}, tmp_path / "model.pt")
    (found,) = _files.find(tmp_path / "model.pt").items()
    assert (found[0], found[1].kind) == ("model.rnn", kind)
    assert_loads(to_torch(found[1].params()), module)


@pytest.mark.parametrize("kind", KINDS)
def test_gru_and_rnn_cells(kind):
    _, single, cell = KINDS[kind]
    module = single(3, 5)
    params = from_torch(module)
    assert_loads(to_torch(params), module)
    x = torch.randn(2, 3)
    output, _ = jaxlstm.fold(cell, ((params,),), jnp.asarray(x.numpy())[None])
    np.testing.assert_allclose(output[0], module(x).detach(), atol=2e-6)


@pytest.mark.parametrize(
    "module", [torch.nn.RNN(3, 5, nonlinearity="relu"), torch.nn.RNNCell(3, 5, nonlinearity="relu")]
)
def test_a_nonlinearity_that_no_parameter_tells_is_refused_where_a_module_does(module):
    with pytest.raises(ValueError, match=r"^source: an RNN whose nonlinearity is 'relu'.*state_dict\(\)"):
        from_torch(module)
    with pytest.raises(ValueError, match=r"^enc: an RNN whose nonlinearity"):
        from_torch(torch.nn.ModuleDict({"enc": module}), "enc")
    assert_loads(to_torch(from_torch(module.state_dict())), module)
