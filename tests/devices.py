"""A test file run as a script on virtual CPU devices, which exist only in a process that asks for them as it begins."""

import json
import os
import subprocess
import sys
from typing import Any


def report_of(script: str, num_devices: int) -> Any:
    """What the script writes to standard output, as JSON; a warning fails it."""
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-W", "error", script], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
