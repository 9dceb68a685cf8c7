"""The native kernels without XLA, under sanitizers; and built, left out, and loaded when they should be."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SANITIZERS = {
    "none": ("-O2", 2000),
    "address": ("-O1 -fsanitize=address,undefined -fno-sanitize-recover=all", 80),
    "thread": ("-O1 -fsanitize=thread", 80),
}


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_random_problems_without_xla(sanitizer, tmp_path):
    """tests/native/driver.cc: values, gradients and bits of random sizes and options, and nothing undefined."""
    flags, count = SANITIZERS[sanitizer]
    configure = ["cmake", "-G", "Ninja", "-S", str(ROOT / "jaxlstm/native"), "-B", str(tmp_path), "-DJAXLSTM_STRICT=ON"]
    configure += ["-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_CXX_FLAGS={flags}"]
    configure += [f"-DJAXLSTM_DRIVER={ROOT / 'tests/native'}", "-DJAX_FFI_INCLUDE_DIR=/"]
    for command in (
        configure,
        ["cmake", "--build", str(tmp_path), "--target", "driver"],
        [str(tmp_path / "driver"), str(count)],
    ):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    assert re.fullmatch(rf"{count} problems agree in each of [1-9] instruction sets\n", result.stdout)


def test_installs_without_a_compiler(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check", "--outdir"]
    environment = os.environ | {"CXX": "/no/such/compiler"}
    result = subprocess.run([*command, str(tmp_path), str(ROOT)], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [wheel.name.split("-", 2)[2] for wheel in tmp_path.iterdir()] == ["py3-none-any.whl"]
    assert '"native" was left out' in result.stdout + result.stderr


def test_the_library_is_loaded_at_first_need():
    code = "import jaxlstm.implementations.native as native; print(native.library.cache_info().currsize)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment).stdout == "0\n"
