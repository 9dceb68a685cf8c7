"""How far something is, on standard error: a bar on a terminal, and elsewhere a line every few seconds."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from jaxlstm.cli._streams import Screen, say

INTERVAL = 5.0
"""Seconds from one line to the next."""

Update = Callable[[int, str], None]
"""Hears what is done, as a count, and what there is to say of it."""


@contextlib.contextmanager
def progress(total: int, done: int = 0, *, unit: str | None = None, refresh_per_second: float = 10) -> Iterator[Update]:
    """Show a count that goes from `done` to `total`, the time left, and the speed if there is a unit to give it in."""
    console = Console(file=Screen())  # pyright: ignore[reportArgumentType] - all of a file that it needs
    if not console.is_terminal:
        yield _Lines(total, done, unit)
        return
    # So narrow a bar that all of it fits into 80 columns.
    columns = BarColumn(bar_width=8), TextColumn("{task.description}"), _Pace(unit)
    with Progress(*columns, console=console, refresh_per_second=refresh_per_second) as bar:
        task = bar.add_task("", total=total, completed=done)
        yield lambda done, status: bar.update(task, completed=done, description=status)


class _Pace(ProgressColumn):
    def __init__(self, unit: str | None):
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(_pace(task.speed, task.remaining or 0, self._unit))


def _pace(speed: float | None, remaining: float, unit: str | None) -> str:
    """Speed, if there is a unit to give it in, and the time left; nothing as long as they are not known."""
    if not speed:
        return ""
    left = timedelta(seconds=round(remaining / speed))
    return f"{left} left" if unit is None else f"{speed:,.0f} {unit}/s, {left} left"


class _Lines:
    def __init__(self, total: int, done: int, unit: str | None):
        self._total, self._start, self._unit = total, done, unit
        self._begun: float | None = None
        self._said = -math.inf

    def __call__(self, done: int, status: str) -> None:
        now = time.monotonic()
        if self._begun is None and done > self._start:  # What was first done took a compilation, too.
            self._start, self._begun = done, now
        if done < self._total and now - self._said < INTERVAL:
            return
        self._said = now
        speed = None if self._begun is None else (done - self._start) / max(now - self._begun, 1e-3)
        say(f"{done / self._total:4.0%}  {status}  {_pace(speed, self._total - done, self._unit)}".rstrip())
