"""`import jaxlstm` costs what JAX costs: it waits for nothing that not every user needs, and shows what there is."""

import ast
import importlib
import importlib.metadata
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import jaxlstm

# Flax's Linen brings rich, and NNX brings optax; everything else here comes only by our own fault.
HEAVY = {"torch", "click", "matplotlib", "orbax", "safetensors", "tensorstore", "optax", "flax.nnx"}
FLAX = {"flax", "rich"}
FORMATS = {"onnx", "onnxruntime", "keras", "haiku", "equinox"}


def imported(statement: str) -> set[str]:
    """All modules that a fresh interpreter has after the statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_is_light():
    modules = imported("import jaxlstm")
    assert not modules & (HEAVY | FORMATS | FLAX | {"jax", "numpy"})
    assert {name for name in modules if name.startswith("jaxlstm")} == {"jaxlstm"}


def test_functions_come_without_flax():
    modules = imported("from jaxlstm import lstm, init_lstm, explain, LSTMState")
    assert "jax" in modules
    assert not modules & (HEAVY | FORMATS | FLAX)
    assert not {name for name in modules if name.startswith(("jaxlstm.cli", "jaxlstm.interop", "jaxlstm.nnx"))}


@pytest.mark.parametrize("statement", ["from jaxlstm import LSTM, LSTMCell", "import jaxlstm; jaxlstm.linen.LSTM"])
def test_linen_comes_alone_when_asked_for(statement):
    modules = imported(statement)
    assert "flax.linen" in modules
    assert not modules & (HEAVY | FORMATS)


def test_weights_are_read_without_torch():
    statement = (
        "import jax, jaxlstm; params = jaxlstm.init_lstm(jax.random.key(0), 3, 5); "
        "jaxlstm.interop.from_torch(jaxlstm.interop.to_torch(params))"
    )
    modules = imported(statement)
    assert "safetensors" in modules
    assert not modules & (HEAVY - {"safetensors"} | FORMATS | FLAX)


def test_submodules_are_attributes():
    names = ("initializers", "interop", "linen", "nnx", "sharding")
    modules = imported(f"import jaxlstm; {', '.join(f'jaxlstm.{name}.__doc__' for name in names)}")
    assert {f"jaxlstm.{name}" for name in names} <= modules


def test_unknown_attributes_are_named():
    with pytest.raises(AttributeError, match="module 'jaxlstm' has no attribute 'gruu'"):
        jaxlstm.gruu  # noqa: B018


def test_version_is_the_packages():
    assert jaxlstm.__version__ == importlib.metadata.version("jaxlstm")


def test_dir_is_the_public_names_and_submodules():
    submodules = {"cells", "initializers", "interop", "linen", "nnx", "sharding"}
    assert set(dir(jaxlstm)) == {*jaxlstm.__all__, *submodules, "__version__"}
    assert set(dir(jaxlstm.interop)) == set(jaxlstm.interop.__all__)
    for module in (jaxlstm, jaxlstm.interop):
        assert all(getattr(module, name) is not None for name in dir(module))


@pytest.mark.parametrize("module", ["jaxlstm", "jaxlstm.interop"])
def test_what_is_handed_out_is_listed_and_in_the_help(module):
    """A name imported `as` itself is public: it belongs in `__all__`, and in the summary that help() begins with."""
    module = importlib.import_module(module)
    assert module.__file__
    assert module.__doc__
    tree = ast.parse(Path(module.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names if alias.asname == alias.name}
    assert names <= set(dir(module))
    for name in dir(module):
        assert f"{name}`" in module.__doc__ or name == "__version__", name
    assert all(name in pydoc.render_doc(module) for name in module.__all__)
