"""Keras files that are broken, or made to do harm: each is read as data, or refused by its name, in little memory."""

import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from keras_files import H, arrays, named, write_h5
from trees import assert_identical

from jaxlstm.interop._keras import from_keras

I = 3  # noqa: E741


def hostile_h5(case, path) -> None:
    kernel, recurrent_kernel, bias = arrays(0, I)
    (path.parent / "secret").write_bytes(bytes(I * 4 * H * 4))
    with h5py.File(path, "w") as file:
        group = file.create_group("lstm_1/lstm_1")
        group["recurrent_kernel:0"] = recurrent_kernel
        group["bias:0"] = np.full_like(bias, np.nan) if case == "NaN" else bias
        if case == "terabytes":
            group.create_dataset("kernel:0", (10**10, 4 * H), np.float32, chunks=(1000, 4 * H))
        elif case == "another file's bytes":
            group.create_dataset("kernel:0", kernel.shape, np.float32, external=[(path.parent / "secret", 0, 2**20)])
        elif case == "another file's link":
            write_h5(path.parent / "other.h5", {"kernel": kernel})
            group["kernel:0"] = h5py.ExternalLink("other.h5", "kernel")
        elif case == "virtual":
            write_h5(path.parent / "other.h5", {"kernel": kernel})
            layout = h5py.VirtualLayout(kernel.shape, np.float32)
            layout[:] = h5py.VirtualSource(path.parent / "other.h5", "kernel", kernel.shape)
            group.create_virtual_dataset("kernel:0", layout)
        elif case == "text":
            group["kernel:0"] = np.array([[b"a" * 8] * 4 * H] * I)
        else:
            group["kernel:0"] = kernel


HOSTILE_H5 = {
    "terabytes": "/lstm_1/lstm_1/kernel:0: claims 640000000000 bytes",
    "another file's bytes": "/lstm_1/lstm_1/kernel:0: its values are kept in another file",
    "another file's link": "no LSTM found",
    "virtual": "/lstm_1/lstm_1/kernel:0: its values are kept in another file",
    "text": "layer 'lstm_1': kernel: expected one of float32",
    "NaN": "layer 'lstm_1': /lstm_1/lstm_1/bias:0: NaN or Inf among the weights",
}


@pytest.mark.parametrize("case", HOSTILE_H5)
def test_hostile_files_are_refused_without_taking_memory(case, tmp_path):
    path = tmp_path / "model.h5"
    hostile_h5(case, path)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"^{path}: {HOSTILE_H5[case]}"):
        from_keras(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("ending", ["h5", "keras"])
@pytest.mark.parametrize(
    "data", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"<html>"], ids=["empty", "h5", "zip", "html"]
)
def test_files_that_are_not_keras_are_named(data, ending, tmp_path):
    path = tmp_path / f"model.{ending}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path}: not readable"):
        from_keras(path)


def test_a_zip_is_read_as_data(tmp_path):
    path = tmp_path / "model.keras"
    write_h5(tmp_path / "weights.h5", named("lstm_1/lstm_1", arrays(0, I)))
    code = {"class_name": "Lambda", "config": {"function": "__import__('os').abort()"}}
    lstm = {"class_name": "LSTM", "config": {"name": "lstm_1"}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Model", "config": {"layers": [code, lstm]}}))
        archive.write(tmp_path / "weights.h5", "../../model.weights.h5")
    with pytest.raises(ValueError, match=f"^{path}: not readable, KeyError: .*model.weights.h5"):
        from_keras(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tmp_path / "weights.h5", "model.weights.h5")
    assert_identical(from_keras(path), from_keras(arrays(0, I)))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(2**27))
    with pytest.raises(ValueError, match=f"^{path}: a zip of .* that claims to hold"):
        from_keras(path)
