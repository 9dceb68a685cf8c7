"""Where a run takes place, and with what."""

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxlstm.cli.bench.peers import PEERS


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def machine(cores: Sequence[int] | None) -> dict[str, Any]:
    """Processor, system and Python, and the cores that a run on `cores` (None for all) has."""
    return {
        "cpu": _cpu_model(),
        "cores": list(usable_cores() if cores is None else cores),
        "pinned": cores is not None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "allocator": allocator(),
    }


def allocator() -> str:
    """The settings of the memory allocator, which all peers' processes inherit from this one."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("MALLOC_") or name in _LOADERS}
    return ", ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "the system's default"


_LOADERS = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES")


def _cpu_model() -> str:
    # Python's own platform.processor() knows only the architecture on most Linux systems.
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def split_by_presence(peers: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Those of `peers` that are installed, and how to install the others."""
    present = [name for name in peers if find_spec(PEERS[name].package)]
    missing = {name: f"pip install {PEERS[name].distribution}" for name in peers if name not in present}
    return present, missing


def installed_versions(peers: Iterable[str]) -> dict[str, str]:
    """Versions by distribution: what `peers` are installed as, JAX and NumPy."""
    names = [*(PEERS[peer].distribution.split()[0] for peer in peers), "jax", "jaxlib", "numpy"]
    return {name: version(name) for name in dict.fromkeys(names)}
