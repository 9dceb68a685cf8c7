"""Runs of `jaxlstm train`, for the tests of what it does: their text, their options, and what they leave."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

TEXT = "".join(f"{k}: the {'quick brown fox' if k % 3 else 'lazy dög'} jumps {k % 7} times\n" for k in range(50))
# Two layers with dropout, and a text short enough to be begun again within the steps.
OPTIONS = shlex.split(
    "--steps 30 --save-every 10 --hidden 16 --layers 2 --dropout 0.2 --batch 4 --window 16 --learning-rate 0.03"
)
STRICT = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict"}
"""`strict.strictly` for a process of its own."""


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """All that is in a folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def metrics(out: Path) -> bytes:
    """A run's losses, as they stand in the file."""
    return (out / "metrics.jsonl").read_bytes()


def held_out_scores(out: Path) -> dict[int, float]:
    """By step."""
    name = "held_out_bits_per_character"
    return {line["step"]: line[name] for line in map(json.loads, metrics(out).splitlines()) if name in line}


def python(code: str, *args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own, strict, at its end."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    env = os.environ | STRICT | environment
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
