"""Files made to do harm: each is refused in seconds, in little memory, and its words steer no terminal."""

import json
import os
import resource
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from keras_files import arrays, named, numbered, write_h5, write_zip
from mutate import read_all

import jaxlstm
from jaxlstm.cli import _isolated
from jaxlstm.cli.convert import inspect
from jaxlstm.interop import load_safetensors, save_safetensors
from jaxlstm.interop._cells import printable
from jaxlstm.interop._h5 import claimed_lengths


def chunk_bomb(path: Path) -> None:
    """A chunk of 3 GiB, most of it never written, for a dataset of a few bytes."""
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        group = file.create_group("lstm/lstm")
        _, group["recurrent_kernel:0"], group["bias:0"] = arrays(0)
        group.create_dataset(
            "kernel:0", (4, 16), np.float32, maxshape=(None, None), chunks=(2**25, 24), compression="gzip"
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.write(path.with_suffix(".h5"), "model.weights.h5")


def expanding_chunk(path: Path) -> None:
    """A chunk that inflates to 64 MiB, where 256 bytes are expected."""
    compressor = zlib.compressobj()
    data = b"".join(compressor.compress(bytes(2**20)) for _ in range(64)) + compressor.flush()
    with h5py.File(path, "w") as file:
        group = file.create_group("lstm/lstm")
        _, group["recurrent_kernel:0"], group["bias:0"] = arrays(0)
        kernel = group.create_dataset("kernel:0", (4, 16), np.float32, chunks=(4, 16), compression="gzip")
        kernel.id.write_direct_chunk((0, 0), data)


def many_small_values(path: Path) -> None:
    write_zip(path, numbered("layers/lstm/cell", arrays(0)), {})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "[" + "{}," * 5_000_000 + "{}]")


def deep_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group: Any = file
        for _ in range(2000):
            group = group.create_group("g")


def circles(path: Path) -> None:
    with h5py.File(path, "w") as file:
        groups = {name: file.create_group(name) for name in "abcd"}
        for group in groups.values():
            for name, other in groups.items():
                group[name] = other


def nested_json(path: Path) -> None:
    write_zip(path, numbered("layers/lstm/cell", arrays(0)), {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "[" * 100_000)


def claiming_text(path: Path) -> None:
    """A configuration of a few bytes that says it has 1.3 GB."""
    write_h5(path, named("lstm/lstm", arrays(0)), {"class_name": "Sequential", "config": {}})
    data = path.read_bytes()
    (length,) = claimed_lengths(data, "model_config")
    place = data.index(struct.pack("<I", length), data.index(b"model_config"))
    path.write_bytes(data[:place] + struct.pack("<I", 1_300_000_000) + data[place + 4 :])


def texts_for_numbers(path: Path) -> None:
    write_h5(path, named("lstm/lstm", arrays(0)))
    with h5py.File(path, "a") as file:
        del file["lstm/lstm/bias:0"]
        file.create_dataset("lstm/lstm/bias:0", arrays(0)[2].shape, h5py.string_dtype())


HOSTILE = {
    "claiming_text.h5": (claiming_text, "its model_config claims to be a text of 1300000000 bytes"),
    "texts_for_numbers.h5": (texts_for_numbers, "/lstm/lstm/bias:0: its values are texts or lists"),
    "chunk_bomb.keras": (chunk_bomb, "/lstm/lstm/kernel:0: claims chunks of 3221225472 bytes"),
    "many_small_values.keras": (many_small_values, r"config\.json claims 15000004 bytes|a zip of"),
    "nested_json.keras": (nested_json, "not readable, RecursionError"),
    "deep_groups.h5": (deep_groups, "groups more than 64 deep, or that hold each other"),
    "circles.h5": (circles, "groups more than 64 deep, or that hold each other"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # Which zipfile itself warns of.
@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(name, tmp_path):
    make, words = HOSTILE[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(ValueError, match=f"^{path}: (?:{words})"):
        _isolated.isolated(read_all, path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_the_lengths_of_texts_are_found_in_files_of_every_age(libver, tmp_path):
    with h5py.File(tmp_path / "model.h5", "w", libver=libver) as file:
        file.attrs["name"], file.create_group("inner").attrs["name"] = "one", "longer"
        file.create_group("fixed").attrs["name"] = np.bytes_("a" * 100)
    assert sorted(claimed_lengths((tmp_path / "model.h5").read_bytes(), "name")) == [3, 6]


def test_a_chunk_may_not_grow_beyond_its_size(tmp_path):
    path = tmp_path / "model.h5"
    expanding_chunk(path)
    read_all(path)  # What is imported for it would count too.
    tracemalloc.start()
    assert read_all(path) == 1  # Its first bytes are those of the array.
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_the_header_of_two_thousand_lstms_is_parsed_once(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    cell = {"weight_ih_l0": np.ones((4, 1), "f"), "weight_hh_l0": np.ones((4, 1), "f")}
    safetensors.numpy.save_file({f"n{k}.{name}": a for k in range(2000) for name, a in cell.items()}, path)
    opened = []
    safe_open = safetensors.safe_open
    monkeypatch.setattr(
        safetensors, "safe_open", lambda *args, **named: opened.append(args) or safe_open(*args, **named)
    )
    assert read_all(path) == 2000
    assert len(opened) == 1


@pytest.mark.parametrize("ending", ["safetensors", "npz", "onnx", "h5", "keras"])
def test_what_has_no_end_is_not_read(ending, tmp_path):
    for path in (tmp_path / f"pipe.{ending}", tmp_path / f"zero.{ending}"):
        os.mkfifo(path) if path.stem == "pipe" else path.symlink_to("/dev/zero")
        with pytest.raises(ValueError, match=f"^{path}: a pipe or device: expected a file"):
            read_all(path)
        if ending == "safetensors":
            with pytest.raises(ValueError, match=f"^{path}: a pipe or device: expected a file"):
                load_safetensors(path)


def spin(path: Path) -> None:  # noqa: ARG001
    while True:
        pass


def crash(path: Path) -> None:  # noqa: ARG001
    os.abort()


def swallow(path: Path) -> None:  # noqa: ARG001
    bytes(2**30)


def most_seconds(path: Path) -> int:  # noqa: ARG001
    return resource.getrlimit(resource.RLIMIT_CPU)[0]


@pytest.mark.parametrize(
    ("parser", "words"),
    [
        (spin, "not read: it takes more than 1 s"),
        (crash, "not read: its parser crashed"),
        (swallow, "not read: it takes more memory than 256 MB"),
    ],
)
def test_whatever_a_parser_does_is_one_line(parser, words, tmp_path, monkeypatch):
    monkeypatch.setattr(_isolated, "_SECONDS", 1)
    monkeypatch.setattr(_isolated, "_PATIENCE", 1)
    path = tmp_path / "some.npz"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{path}: {words}"):
        _isolated.isolated(parser, path)


def test_processor_time_is_limited_whatever_the_clock_says(tmp_path):
    assert 0 < _isolated.isolated(most_seconds, tmp_path / "some.npz") < 60


STEERING = "\x1b]0;title\x07\x1b[31mred\u202e"


def test_a_files_words_steer_no_terminal(tmp_path):
    path = tmp_path / "model.safetensors"
    params: Any = jaxlstm.init_lstm_cell(jax.random.key(0), 2, 3)
    save_safetensors(params, path)
    leaves = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({f"{STEERING}.{name}": leaf for name, leaf in leaves.items()}, path)
    result = CliRunner().invoke(inspect, [str(path)])
    assert r"\x1b]0;title\x07\x1b[31mred\u202e" in result.stdout
    assert all(c.isprintable() or c == "\n" for c in result.output)

    header = json.dumps({f"{STEERING}.weight_ih": {"dtype": "F32", "shape": [4, 1], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(ValueError, match="weight_hh: missing") as error:
        load_safetensors(path, STEERING)
    assert str(error.value) == printable(error.value)
