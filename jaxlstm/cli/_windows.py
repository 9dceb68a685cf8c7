"""The windows of truncated backpropagation that a text's ids are cut into."""

from collections.abc import Iterator
from typing import NamedTuple

import click
import numpy as np


class Window(NamedTuple):
    """What one step reads: `inputs` and `targets` int `[T, B]`, and whether a pass over the text begins here."""

    inputs: np.ndarray
    targets: np.ndarray
    begins: bool


class Windows:
    """Training ids as B stretches side by side, cut into windows of T; a pure function of the step.

    Args:
        ids: `int32[N]`.
        batch: B.
        window: T.

    Raises:
        click.UsageError: fewer than T+1 characters to a stretch.
    """

    def __init__(self, ids: np.ndarray, batch: int, window: int):
        self.per_pass = (len(ids) - 1) // batch // window
        self.window = window
        if self.per_pass < 1:
            raise click.UsageError(
                f"The text is too short: --batch {batch} --window {window} need {batch * window + 1:,} characters to "
                f"train on, and it has {len(ids):,} beside the held-out end. Give more text or smaller ones."
            )
        length = self.per_pass * window * batch
        self.inputs, self.targets = (ids[k : k + length].reshape(batch, -1).T for k in (0, 1))

    def __getitem__(self, step: int) -> Window:
        turn = step % self.per_pass
        rows = slice(turn * self.window, (turn + 1) * self.window)
        return Window(self.inputs[rows], self.targets[rows], turn == 0)


class ScoredWindow(NamedTuple):
    """`inputs` and `targets` int `[T, B]`, and bool `counts`, False where a target only fills the window up."""

    inputs: np.ndarray
    targets: np.ndarray
    counts: np.ndarray


def scored_windows(before: int, ids: np.ndarray, batch: int, window: int) -> Iterator[ScoredWindow]:
    """Windows as in training in which each of `ids` is a target that counts once.

    Args:
        before: the id that precedes them in the text, the first input.
        ids: `int32[N]`.
        batch: B.
        window: T.
    """
    length = -(-len(ids) // (batch * window)) * window
    counts = np.arange(batch * length) < len(ids)
    targets = np.zeros(batch * length, np.int32)
    targets[: len(ids)] = ids
    inputs = np.concatenate([[before], targets[:-1]], dtype=np.int32)
    rows = [a.reshape(batch, length).T for a in (inputs, targets, counts)]
    for start in range(0, length, window):
        yield ScoredWindow(*(a[start : start + window] for a in rows))
