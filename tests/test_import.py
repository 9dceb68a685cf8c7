"""`import jaxlstm` costs what JAX and Flax's Linen cost: it waits for nothing that not every user needs."""

import subprocess
import sys

import pytest

# Flax's Linen brings rich, and NNX brings optax; everything else here comes only by our own fault.
HEAVY = {"torch", "click", "matplotlib", "orbax", "safetensors", "tensorstore", "optax", "flax.nnx"}
FORMATS = {"onnx", "onnxruntime", "keras", "haiku", "equinox"}


def imported(statement: str) -> set[str]:
    """All modules that a fresh interpreter has after the statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_is_light():
    modules = imported("import jaxlstm")
    assert not modules & (HEAVY | FORMATS)
    assert not {name for name in modules if name.startswith(("jaxlstm.cli", "jaxlstm.interop", "jaxlstm.nnx"))}


def test_weights_are_read_without_torch():
    statement = (
        "import jax, jaxlstm; params = jaxlstm.init_lstm(jax.random.key(0), 3, 5); "
        "jaxlstm.interop.from_torch(jaxlstm.interop.to_torch(params))"
    )
    modules = imported(statement)
    assert "safetensors" in modules
    assert not modules & (HEAVY - {"safetensors"} | FORMATS)


def test_submodules_are_attributes():
    assert {"jaxlstm.linen", "jaxlstm.nnx", "jaxlstm.interop", "jaxlstm.sharding"} <= imported(
        "import jaxlstm; jaxlstm.linen.LSTM, jaxlstm.nnx.LSTM, jaxlstm.interop.from_torch, jaxlstm.sharding.shardings"
    )


def test_unknown_attributes_are_named():
    import jaxlstm

    with pytest.raises(AttributeError, match="module 'jaxlstm' has no attribute 'gru'"):
        jaxlstm.gru  # noqa: B018
