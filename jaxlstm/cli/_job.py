"""What a run trains on and is scored on, made from its text."""

import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxlstm.cli import _text
from jaxlstm.cli._config import TrainConfig
from jaxlstm.cli._run import Record
from jaxlstm.cli._windows import ScoredWindow, Windows, scored_windows


class Job(NamedTuple):
    """A run's record, its text to train on and the end that is held out, and the windows of both."""

    record: Record
    train_text: str
    held_out: str
    windows: Windows
    scored: list[ScoredWindow]

    def guess_bits(self) -> float:
        """Bits per character of the held-out text to who takes each character of the vocabulary for equally likely."""
        unknown = sum(int((each.targets == _text.UNKNOWN)[each.counts].sum()) for each in self.scored)
        return math.log2(len(self.record.vocabulary) + 1) + _text.UNKNOWN_BITS * unknown / len(self.held_out)

    def __str__(self) -> str:
        return (
            f"Text: {source(self.record.files)}, {len(self.train_text) + len(self.held_out):,} characters of "
            f"{len(self.record.vocabulary)} kinds; the last {len(self.held_out):,} are held out."
        )


def make_job(config: TrainConfig, files: Sequence[Path]) -> Job:
    """Read the files, or Python's standard library.

    Raises:
        click.UsageError: a file that is no text, or too little of it.
    """
    text = _text.read_text(files)
    train_text, held_out = _text.split(text)
    record = Record(
        config=config,
        files=tuple(str(path.absolute()) for path in files),
        text_sha256=_text.fingerprint(text),
        vocabulary=_text.vocabulary_of(train_text),
    )
    ids = _text.encode(train_text, record.vocabulary)
    windows = Windows(ids, config.batch, config.window)
    held_out_ids = _text.encode(held_out, record.vocabulary)
    scored = list(scored_windows(ids[-1], held_out_ids, config.batch, config.window))
    return Job(record, train_text, held_out, windows, scored)


def source(files: Sequence[str | Path]) -> str:
    """The text's name for the user."""
    if not files:
        return f"Python {platform.python_version()}'s standard library"
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
