"""All that the README shows, run as it stands (the blocks with PyTorch are in against_torch)."""

import re
import runpy

import jax
import matplotlib.image
import pytest
import readme

ROOT = readme.README.parent
FOLDER = ROOT / "notebooks"


# A newcomer runs these without our strictness; what is tested here is that they run.
@pytest.mark.parametrize("block", [b for b in readme.blocks("python") if not readme.needs_torch(b)], ids=readme.title)
def test_python_block_runs(block):
    readme.run(block)


def test_commands_are_those_that_ci_runs():
    """`.ci/run` takes the installation and test command from the README itself; the training one is in test_train."""
    train, test, contribute = readme.blocks("sh")
    assert train == "pip install -e '.[cli]' && jaxlstm train\n"
    assert test == "pip install -e '.[test]' && pytest\n"
    install, checks, everything = contribute.splitlines()
    assert [install, everything] == ["pip install -e '.[test]'", "bash .ci/run"]
    assert checks == "ruff format . && ruff check . && pyright && pytest"


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#\s]+)", readme.README.read_text())
    assert len(links) > 20
    assert not [link for link in links if not (ROOT / link).is_file()]


def test_picture_is_drawn_by_an_lstm_that_learned_to_count(tmp_path):
    """The caption's claim too: it knows every letter that can be known, in words longer than those of training."""
    script = runpy.run_path(str(FOLDER / "front_page.py"))
    assert max(script["SHOWN"]) > script["LONGEST"]
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer.
        assert script["draw"](tmp_path / "picture.png")
    drawn, shown = (matplotlib.image.imread(path) for path in (tmp_path / "picture.png", FOLDER / "front_page.png"))
    assert drawn.shape == shown.shape
    assert drawn.std() > 0.05
