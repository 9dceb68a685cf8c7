"""A run's folder: its configuration, its losses and its checkpoints, so written that a kill at any moment spares them.

.lock           first; whoever trains has it locked
config.json     whole or not there; the folder is a run from then on
metrics.jsonl   a line for each step, always there before the checkpoint that follows the step
checkpoints/    whole or not there; each has a digest of itself and of the lines before it
loss.png        at the end
"""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from jaxlstm._write import naming, replacing, unfinished
from jaxlstm.cli._checkpoints import FOLDER
from jaxlstm.cli._config import TrainConfig
from jaxlstm.cli._lock import LOCK

CONFIG = "config.json"
METRICS = "metrics.jsonl"
PLOT = "loss.png"

_DIGEST = "sha256"


@dataclasses.dataclass(frozen=True)
class Record:
    """What `config.json` holds.

    Attributes:
        config: the options.
        files: the text's files as absolute paths; none for Python's standard library.
        text_sha256: of the whole text.
        vocabulary: the characters of the training text.
    """

    config: TrainConfig
    files: tuple[str, ...]
    text_sha256: str
    vocabulary: str


def check_free(out: Path) -> None:
    """Refuse a folder that holds anything.

    Raises:
        click.UsageError: it does, or is none.
    """
    try:
        found = {path.name for path in out.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise click.UsageError(f"--out {out}: {error.strerror or error}.") from error
    if CONFIG in found:
        raise click.UsageError(f"--out {out}: holds a run already. Go on with it by --resume, or give another --out.")
    if found and LOCK not in found:
        raise click.UsageError(f"--out {out}: holds other files ({min(found)}). Give a new or an empty folder.")


def write(out: Path, record: Record) -> None:
    """Make the folder a run, or the run another.

    Raises:
        OSError: it can't be written.
    """
    fields = dataclasses.asdict(record)
    with naming(out / CONFIG), replacing(out / CONFIG) as temporary:
        temporary.write_text(json.dumps(fields | {_DIGEST: _digest(fields)}, indent=2) + "\n", encoding="utf-8")


def tidy(out: Path) -> None:
    """Delete what a killed process left half-written; whoever trains in the folder has it to itself."""
    for folder in (out, out / FOLDER):
        for left in unfinished(folder):
            left.unlink()


def load(out: Path) -> Record:
    """The configuration that a run began with.

    Raises:
        click.UsageError: the folder holds no run, or one that is damaged or of another version.
    """
    try:
        record = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        digest = record.pop(_DIGEST)
        if digest != _digest(record):
            raise ValueError("its SHA-256 is not that of what it holds")
        return Record(**record | {"config": TrainConfig(**record["config"]), "files": tuple(record["files"])})
    except OSError as error:
        raise click.UsageError(
            f"{out}: holds no run of jaxlstm train ({error.strerror or error}: {CONFIG}). Name a run's folder, or "
            f"begin one: jaxlstm train --out {shlex.quote(str(out))}"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise click.UsageError(
            f"{out / CONFIG}: is none that this version of jaxlstm wrote, or is damaged ({error})."
        ) from error


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def was_begun(out: Path) -> bool:
    """Whether a run was killed here before its configuration was written."""
    return (out / LOCK).exists() and not (out / CONFIG).exists()


class Metrics:
    """`metrics.jsonl`, open behind the line of `step`: what was logged later, and never saved, is taken out.

    Args:
        out: the run's folder.
        step: steps whose lines stay.
    """

    def __init__(self, out: Path, step: int):
        self._path = out / METRICS
        lines = _lines(out)[:step]
        with naming(self._path), replacing(self._path) as temporary:
            temporary.write_bytes(b"".join(lines))
        self._whole = _hash(lines)
        self._file = self._path.open("ab")

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        with naming(self._path):
            self._file.close()

    def write(self, **line: float) -> None:
        """Add the next step's line, and hand it to the operating system."""
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        with naming(self._path):
            self._file.write(data)
            self._file.flush()
        self._whole.update(data)

    def digest(self) -> str:
        """SHA-256 of all lines."""
        return self._whole.hexdigest()


def metrics_digest(out: Path, step: int) -> str:
    """SHA-256 of the lines of the steps up to this one, as they are now."""
    return _hash(_lines(out)[:step]).hexdigest()


def _hash(lines: Iterable[bytes]) -> Any:
    return hashlib.sha256(b"".join(lines))


def _lines(out: Path) -> list[bytes]:
    path = out / METRICS
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """A run's lines, one for each step: step, characters, loss in nats per character, bits_per_character.

    At each planned checkpoint there is held_out_bits_per_character, too.
    """
    return [json.loads(line) for line in _lines(out)]
