"""A run's folder: its configuration, its losses and its checkpoints, so written that a kill at any moment spares them.

config.json     written first, at once or not at all; the folder is a run from then on
metrics.jsonl   a line for each step, always there before the checkpoint that follows the step
checkpoints/    orbax's; one that was not finished does not count
loss.png        at the end
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from jaxlstm._write import replacing, unfinished
from jaxlstm.cli._config import TrainConfig

CONFIG = "config.json"
METRICS = "metrics.jsonl"
PLOT = "loss.png"


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
        found = {path.name for path in out.iterdir()} - {path.name for path in unfinished(out / CONFIG)}
    except FileNotFoundError:
        return
    except OSError as error:
        raise click.UsageError(f"--out {out}: {error.strerror or error}.") from error
    if CONFIG in found:
        raise click.UsageError(f"--out {out}: holds a run already. Go on with it by --resume, or give another --out.")
    if found:
        raise click.UsageError(f"--out {out}: holds other files ({min(found)}). Give a new or an empty folder.")


def create(out: Path, record: Record) -> None:
    """Make the folder a run.

    Raises:
        click.UsageError: it can't be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        _clear(out / CONFIG)
        with replacing(out / CONFIG) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(record), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--out {out}: can't be written ({error.strerror or error}).") from error


def load(out: Path) -> Record:
    """What the run was told.

    Raises:
        click.UsageError: the folder holds no run, or one of another version.
    """
    try:
        record = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        return Record(**record | {"config": TrainConfig(**record["config"]), "files": tuple(record["files"])})
    except OSError as error:
        raise click.UsageError(
            f"{out}: holds no run of jaxlstm train ({error.strerror or error}: {CONFIG})."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise click.UsageError(f"{out / CONFIG}: is none that this version of jaxlstm wrote ({error}).") from error


def was_begun(out: Path) -> bool:
    """Whether a run was killed here while its configuration was being written."""
    return bool(unfinished(out / CONFIG)) and not (out / CONFIG).exists()


def _clear(path: Path) -> None:
    """Delete what a killed run left of `path`: a folder is one run's, and one process's at a time."""
    for left in unfinished(path):
        left.unlink(missing_ok=True)


class Metrics:
    """`metrics.jsonl`, open behind the line of `step`: what was logged later, and never saved, is taken out.

    Args:
        out: the run's folder.
        step: steps whose lines stay.

    Raises:
        click.UsageError: lines of these steps are missing.
    """

    def __init__(self, out: Path, step: int):
        path = out / METRICS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:step] if path.exists() else []
        if len(lines) < step:
            raise click.UsageError(
                f"{path}: lacks lines for the {step} steps before the checkpoint. Put it back, or give another --out."
            )
        _clear(path)
        with replacing(path) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, **line: float) -> None:
        """Add the next step's line, and hand it to the operating system."""
        self._file.write(json.dumps(line) + "\n")


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """A run's lines, one for each step: step, characters, loss in nats per character, bits_per_character.

    At each planned checkpoint there is held_out_bits_per_character, too.
    """
    return [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
