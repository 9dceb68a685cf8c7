"""Strictness for every test: warnings are errors (pyproject.toml), and so is an implicit promotion of rank or dtype.

What compiles for seconds and runs for milliseconds is not optimized, in processes that tests start neither; what
judges numbers, or the compiled text, as users get them, is marked `optimized`.

And what several files of tests look at: a run of `jaxlstm train`, and a way to call the command line.
"""

import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from runs import OPTIONS, TEXT
from strict import strictly

strictly()
# Under nohup, or in the background, the processes that tests start would be deaf to these.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


@pytest.fixture(autouse=True)
def optimization(request) -> Iterator[None]:
    """As the test's marker says."""
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("optimized") is None)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory) -> Path:
    """The text of the runs."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(text_file, tmp_path_factory) -> Path:
    """The folder of a run that nothing disturbed. It is for looking at only."""
    from jaxlstm.cli import main

    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.raises(SystemExit) as end:
        main(["train", str(text_file), "--out", str(out), *OPTIONS])
    assert not end.value.code
    return out


@pytest.fixture
def keras(monkeypatch) -> Iterator[Any]:
    """Keras, on JAX, which draws the same in every run."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.numpy_rank_promotion("allow"):  # Keras leans on it.
        library = importlib.import_module("keras")
        library.utils.set_random_seed(0)
        yield library


@pytest.fixture
def call(capsys):
    """Run the command line here: exit status, stdout, stderr."""
    from jaxlstm.cli import main

    def run(*args) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(map(str, args)))
        status = end.value.code or 0
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return run
