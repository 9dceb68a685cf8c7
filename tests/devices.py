"""A test file run as a script on virtual CPU devices, which exist only in a process that asks for them as it begins."""

import json
import os
import subprocess
import sys
from typing import Any


def report_of(script: str, num_devices: int) -> Any:
    """What the script writes to standard output, as JSON; a warning fails it."""
    # Machine code that runs for milliseconds need not be optimized for seconds; XLA partitions it all the same.
    flags = f"--xla_force_host_platform_device_count={num_devices} --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-W", "error", script], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
