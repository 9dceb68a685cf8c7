"""What is handed out: an sdist, and a wheel built from it that installs and runs where nothing of this checkout is."""

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMOKE = """
import flax.nnx, jax, jax.numpy as jnp, jaxlstm, jaxlstm.nnx, jaxlstm.sharding, pathlib
from jaxlstm.interop import load_safetensors, save_safetensors

params = jaxlstm.init_lstm(jax.random.key(0), 3, 5, bidirectional=True)
save_safetensors(params, "model.safetensors")
output, _ = jaxlstm.lstm(load_safetensors("model.safetensors"), jnp.ones((7, 2, 3)), lengths=[7, 4])
model = jaxlstm.LSTM(3, 5)
y, _ = model.apply(model.init(jax.random.key(0), jnp.ones((7, 2, 3))), jnp.ones((7, 2, 3)))
jaxlstm.nnx.LSTMCell(3, 5, rngs=flax.nnx.Rngs(0))
print(pathlib.Path(jaxlstm.__file__).parent.parent, output.shape, y.shape)
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    """A command's standard output."""
    result = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist and the wheel, as `python -m build` makes them."""
    out = tmp_path_factory.mktemp("dist")
    run(
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--skip-dependency-check",
        "--outdir",
        str(out),
        str(ROOT),
        cwd=out,
    )
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def site(built, tmp_path_factory) -> Path:
    """A folder with the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(*pip, "--target", str(folder), str(built[1]), cwd=folder)
    return folder


def test_wheel_holds_the_package_and_nothing_else(built):
    names = zipfile.ZipFile(built[1]).namelist()
    packaged = {name for name in names if name.startswith("jaxlstm/")}
    assert packaged == {
        str(path.relative_to(ROOT))
        for path in (ROOT / "jaxlstm").rglob("*")
        if path.is_file()
        and path.suffix not in (".pyc", ".so")
        and (path.suffix == ".py" or path.parent.name != "native")
    } | {"jaxlstm/native/jaxlstm_native.so"}
    assert "jaxlstm/py.typed" in packaged
    others = {name.split("/", 1)[1] for name in names if name not in packaged}
    assert others == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_sdist_holds_sources_and_tests(built):
    with tarfile.open(built[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "jaxlstm/py.typed", "tests/conftest.py"} <= names
    assert {"jaxlstm/native/CMakeLists.txt", "jaxlstm/native/handlers.cc", "jaxlstm/native/layer.h"} <= names


def test_metadata_is_complete(site):
    (distribution,) = importlib.metadata.distributions(name="jaxlstm", path=[str(site)])
    metadata = distribution.metadata
    assert metadata["Summary"].startswith("PyTorch's nn.LSTM")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert {"bench", "cli", "notebooks", "test", "tpu"} <= set(metadata.get_all("Provides-Extra", []))
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split("[<>=]", line)[0].strip() for line in required} == {"jax", "flax", "numpy", "optax", "safetensors"}


def test_wheel_runs_away_from_this_checkout(site, tmp_path):
    # Without site, so that no editable install of this checkout comes before it.
    python = (sys.executable, "-S", "-W", "error")
    path = os.pathsep.join((str(site), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    printed = run(*python, "-c", SMOKE, cwd=tmp_path, PYTHONPATH=path)
    assert printed == f"{site} (7, 2, 10) (7, 2, 5)\n"
    (script,) = (site / "bin").iterdir()
    assert "train" in run(*python, str(script), "--help", cwd=tmp_path, PYTHONPATH=path)
