"""Checkpoints as people save them: nested, under weight norm, pruned, quantized, damaged."""

import importlib
import os
import pickle
import warnings
import zipfile
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from click.testing import CliRunner
from mutate import read_all
from trees import assert_identical

import jaxlstm
from jaxlstm.cli import _isolated
from jaxlstm.cli.convert import inspect
from jaxlstm.interop import _files, from_haiku, from_onnx, from_torch, to_onnx

I, H = 3, 4  # noqa: E741


def lstm(**options: Any) -> Any:
    return torch.nn.LSTM(I, H, **options)


def checkpoint(module: torch.nn.Module) -> dict[str, Any]:
    state = {f"lstm.{name}": tensor for name, tensor in module.state_dict().items()}
    return {"epoch": 3, "model": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}}


@pytest.mark.parametrize("ending", ["pt", "pth", "pth.tar", "ckpt", "bin"])
def test_nested_checkpoints_by_the_prefix_that_inspect_names(ending, tmp_path):
    module, path = lstm(), tmp_path / f"model.{ending}"
    torch.save(checkpoint(module), path)
    result = CliRunner().invoke(inspect, [str(path)])
    assert "model.lstm" in result.stdout
    (found,) = _files.find(path).values()
    for params in (from_torch(torch.load(path), "model.lstm"), from_torch(checkpoint(module), prefix="model.lstm")):
        assert_identical(params, from_torch(module))
    np.testing.assert_array_equal(found.params()[0][0].weight_hh, from_torch(module)[0][0].weight_hh)
    with pytest.raises(ValueError, match=r"Pick one layer of a larger model by its prefix: 'model\.lstm'"):
        from_torch(checkpoint(module))


def test_names_may_be_joined_by_slashes():
    leaves = {f"enc/lstm/{name}": tensor for name, tensor in lstm().state_dict().items()}
    assert len(from_torch(leaves, "enc/lstm")) == 1
    with pytest.raises(ValueError, match="by its prefix: 'enc/lstm'"):
        from_torch(leaves)


def normed(module: torch.nn.Module, kind: str, dim: Any) -> torch.nn.Module:
    """One whose weights are not at the start, where g is |v|."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # The older of the two is on its way out.
        utils = torch.nn.utils
        (utils.weight_norm if kind == "older" else utils.parametrizations.weight_norm)(module, "weight_hh_l0", dim=dim)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.mul_(1.7 if name.endswith(("_g", "original0")) else 1)
    return module


@pytest.mark.parametrize("kind", ["older", "parametrized"])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weights_under_weight_norm_are_computed(kind, dim, tmp_path):
    module = normed(lstm(), kind, dim)
    x = torch.randn(5, 2, I)
    expected = module(x)[0].detach()
    path = tmp_path / "model.pt"
    torch.save({f"enc.{name}": tensor for name, tensor in module.state_dict().items()}, path)
    for params in (from_torch(module), from_torch(torch.load(path), "enc"), _files.find(path)["enc"].params()):
        y, _ = jaxlstm.lstm(params, jnp.asarray(x.numpy()))
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def reparametrized(case: str) -> Any:
    module = lstm()
    if case == "spectral norm":
        return torch.nn.utils.parametrizations.spectral_norm(module, "weight_hh_l0")
    if case == "older spectral norm":
        return torch.nn.utils.spectral_norm(module, "weight_hh_l0")
    if case == "pruned":
        return torch.nn.utils.prune.random_unstructured(module, "weight_hh_l0", 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is on its way out.
        quantization = importlib.import_module("torch.ao.quantization")
        return quantization.quantize_dynamic(torch.nn.Sequential(module), {torch.nn.LSTM}, dtype=torch.qint8)


REFUSED = {
    "spectral norm": "parametrizations.weight_hh_l0.original: parametrized.*remove_parametrizations",
    "older spectral norm": "weight_hh_l0_orig: pruned, or under spectral_norm.*remove_spectral_norm",
    "pruned": "weight_hh_l0_orig: pruned, .*prune.remove",
    "quantized": "0._all_weight_values.0.param: dynamically quantized",
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_names_only_stand_for_are_refused_with_a_way_out(case):
    with pytest.raises(ValueError, match=f"^{REFUSED[case]}"):
        from_torch(reparametrized(case))


def test_a_flipped_bit_is_told_by_the_sum(tmp_path):
    path = tmp_path / "model.pt"
    module = lstm()
    torch.save(module.state_dict(), path)
    data = bytearray(path.read_bytes())
    place = data.find(module.weight_hh_l0.detach().numpy().tobytes())
    data[place + 3] ^= 0x40  # An exponent's.
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{path}: model/data/\d: damaged since it was written"):
        _files.find(path)


def test_a_checkpoint_without_sums_is_read(tmp_path):
    path = tmp_path / "model.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(lstm().state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert not any(member.CRC for member in zipfile.ZipFile(path).infolist())
    assert len(_files.find(path)) == 1


def test_dictionaries_that_hold_each_other_are_refused(tmp_path):
    first: dict[str, Any] = {"x": torch.zeros(1)}
    first["again"] = first
    torch.save(first, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt: more than 100000 entries, or dictionaries that hold each other"):
        _files.find(tmp_path / "model.pt")
    with pytest.raises(ValueError, match="dictionaries more than 64 deep, or that hold each other"):
        from_torch(first)


def test_what_has_no_end_is_not_read(tmp_path):
    for path in (tmp_path / "pipe.pt", tmp_path / "zero.pt"):
        os.mkfifo(path) if path.stem == "pipe" else path.symlink_to("/dev/zero")
        with pytest.raises(ValueError, match=f"^{path}: a pipe or device: expected a file"):
            _files.find(path)


def test_keys_that_take_for_ever_to_hash_are_given_up(tmp_path, monkeypatch):
    """A tuple of itself twice, fifty times over, inside of what `torch.load` takes for data."""
    monkeypatch.setattr(_isolated, "_SECONDS", 1)
    monkeypatch.setattr(_isolated, "_PATIENCE", 1)
    path, plain = tmp_path / "model.pt", tmp_path / "plain.pt"
    torch.save({}, plain)
    twice = b"".join(b"h" + bytes([k]) + pickle.TUPLE2 + pickle.BINPUT + bytes([k + 1]) for k in range(50))
    with zipfile.ZipFile(plain) as theirs, zipfile.ZipFile(path, "w") as archive:
        for name in theirs.namelist():
            hostile = b"\x80\x02}" + b")q\x00" + twice + b"K\x01s."
            archive.writestr(name, hostile if name.endswith("data.pkl") else theirs.read(name))
    with pytest.raises(ValueError, match=f"^{path}: not read: it takes more than 1 s"):
        _isolated.isolated(read_all, path)


def test_leaves_in_bfloat16_that_require_gradients_are_read_by_every_importer():
    w = torch.randn(I + H, 4 * H, dtype=torch.bfloat16, requires_grad=True)
    params = from_haiku({"w": w, "b": torch.zeros(4 * H, dtype=torch.bfloat16, requires_grad=True)})
    assert params[0][0].weight_ih.dtype == jnp.bfloat16
    assert from_torch(dict(lstm(dtype=torch.bfloat16).named_parameters()))[0][0].bias_hh.dtype == jnp.bfloat16


def test_onnx_runtimes_quantizers_take_our_file_and_are_known_by_theirs(tmp_path):
    """Here, as its symbolic shape inference needs sympy, which torch brings."""
    quantization = importlib.import_module("onnxruntime.quantization")
    prepare = importlib.import_module("onnxruntime.quantization.shape_inference").quant_pre_process
    params = from_torch(lstm())
    ours, prepared, theirs = (tmp_path / f"{name}.onnx" for name in ("ours", "prepared", "theirs"))
    to_onnx(params, ours)
    prepare(ours, prepared)
    assert_identical(from_onnx(prepared), params)
    quantization.quantize_dynamic(prepared, theirs, op_types_to_quantize=["LSTM"])
    with pytest.raises(ValueError, match="a DynamicQuantizeLSTM, whose weights ONNX Runtime has rounded to 8 bits"):
        from_onnx(theirs)
