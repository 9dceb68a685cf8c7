"""Files that appear whole or not at all, whoever else is at work in the folder."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from trees import assert_identical

import jaxlstm
from jaxlstm import _write
from jaxlstm._write import replacing, unfinished
from jaxlstm.cli.convert import convert
from jaxlstm.interop import _files

pytestmark = [
    pytest.mark.usefixtures("keras"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

PARAMS: Any = jaxlstm.init_lstm(jax.random.key(0), 3, 4)
ENDINGS = ("npz", "safetensors", "onnx", "keras", "h5")


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "in" / "model.npz"
    path.parent.mkdir()
    _files.save(PARAMS, path)
    return path


def refused(source: Path, target: Path) -> str:
    result = CliRunner().invoke(convert, [str(source), str(target)])
    assert result.exit_code == 2, result.output
    return result.output.partition("Error: ")[2].strip()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_place_that_cannot_be_written_is_named_alike_in_every_format(ending, source, tmp_path):
    target, folder = tmp_path / "no" / f"out.{ending}", tmp_path / "no"
    assert refused(source, target) == f"{target}: there is no folder {folder}. Make it first."
    with pytest.raises(FileNotFoundError, match=re.escape(str(target))):
        _files.save(PARAMS, target)
    (tmp_path / f"folder.{ending}").mkdir()
    assert refused(source, tmp_path / f"folder.{ending}") == f"{tmp_path}/folder.{ending}: Is a directory."
    os.mkfifo(tmp_path / f"pipe.{ending}")
    assert refused(source, tmp_path / f"pipe.{ending}") == f"{tmp_path}/pipe.{ending}: Not a regular file."
    assert {path.name for path in tmp_path.iterdir()} == {"in", f"folder.{ending}", f"pipe.{ending}"}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_planted_link_leads_nowhere(ending, tmp_path, monkeypatch):
    """Not even one that foresaw the name."""
    path, victim = tmp_path / f"out.{ending}", tmp_path / "victim"
    victim.write_bytes(b"precious")
    names = iter([bytes(8).hex(), bytes(8).hex(), b"unforeseen".hex()[:16]])
    monkeypatch.setattr(_write.secrets, "token_hex", lambda count: next(names))  # noqa: ARG005
    planted = tmp_path / f".part.{bytes(8).hex()}.out.{ending}"
    planted.symlink_to(victim)
    _files.save(PARAMS, path)
    assert victim.read_bytes() == b"precious"
    assert unfinished(path.parent) == [planted]
    assert next(names, None) is None, "the name is not secrets' own"
    (found,) = _files.find(path).values()
    np.testing.assert_array_equal(found.params()[0][0].weight_hh, PARAMS[0][0].weight_hh)


def test_each_writer_has_a_name_of_its_own(tmp_path):
    path, other = tmp_path / "o*t", tmp_path / "longer.o*t"
    with replacing(path) as first, replacing(path) as second, replacing(other) as third:
        assert first.name != second.name
        assert re.fullmatch(r"\.part\.[0-9a-f]{16}\.o\*t", first.name)
        assert sorted(unfinished(path.parent)) == sorted([first, second, third])
    assert unfinished(path.parent) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_permissions_and_links_stay(ending, tmp_path):
    path, link = tmp_path / f"out.{ending}", tmp_path / f"link.{ending}"
    path.write_bytes(b"before")
    path.chmod(0o600)
    link.symlink_to(path)
    _files.save(PARAMS, link)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(_files.find(path)) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_longest_name_is_written(ending, tmp_path):
    path = tmp_path / ("n" * (254 - len(ending)) + f".{ending}")
    _files.save(PARAMS, path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_was_private_is_private_while_it_is_written(tmp_path):
    path = tmp_path / "out"
    path.touch(0o600)
    with replacing(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


def test_two_at_once_each_write_a_whole_file(tmp_path):
    path = tmp_path / "out"
    both_write = threading.Barrier(2)

    def write(byte: bytes) -> None:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(byte * 1000)
            both_write.wait()
            file.write(byte * 1000)

    threads = [threading.Thread(target=write, args=(byte,)) for byte in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_it_is_on_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("replace"), replace(self, target))[1])
    with replacing(tmp_path / "out") as temporary:
        temporary.write_bytes(b"x")
    assert done == ["file", "replace", "dir"]


def test_what_fails_while_writing_leaves_nothing_and_names_the_place(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"before")
    with pytest.raises(FileNotFoundError, match=f"'{path}'"), replacing(path) as temporary:  # noqa: PT012
        temporary.unlink()
        temporary.read_bytes()
    with pytest.raises(RuntimeError, match="mine"), replacing(path):
        raise RuntimeError("mine")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


TERMINATED = """
import os, signal, sys
from jaxlstm.cli import main
from jaxlstm.interop import _files

def save(params, path):
    from jaxlstm._write import replacing
    with replacing(path):
        os.kill(os.getpid(), signal.SIGTERM)

_files.save = save
if __name__ == "__main__":
    main(sys.argv[1:])
"""


def test_a_request_to_end_leaves_nothing_behind(source, tmp_path):
    script = tmp_path / "in" / "script.py"
    script.write_text(TERMINATED)
    words = [sys.executable, script, "convert", source, tmp_path / "out.npz"]
    assert subprocess.run(words, timeout=300, check=False).returncode == 128 + signal.SIGTERM
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


def test_what_is_reported_is_what_is_written(tmp_path):
    half: Any = jax.tree.map(lambda leaf: leaf.astype("float16"), PARAMS)
    _files.save(half, tmp_path / "half.npz")
    for ending, dtype in (("onnx", "float32"), ("h5", "float32"), ("npz", "float16")):
        result = CliRunner().invoke(convert, [str(tmp_path / "half.npz"), str(tmp_path / f"out.{ending}")])
        assert result.stdout.splitlines()[0].endswith(f", {dtype}.")
    assert_identical(
        jax.tree.map(jax.numpy.asarray, next(iter(_files.find(tmp_path / "out.npz").values())).params()), half
    )
