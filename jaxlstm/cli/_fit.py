"""The training loop: steps, log, held-out score, checkpoints, and a stop by signal that loses nothing."""

import contextlib
import math
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from jaxlstm.cli._checkpoints import Checkpoints
from jaxlstm.cli._config import TrainConfig
from jaxlstm.cli._model import CharacterModel, TrainState, init, make_model, score_window, train_step
from jaxlstm.cli._run import Metrics, Record
from jaxlstm.cli._windows import ScoredWindow, Windows


def fit(out: Path, record: Record, windows: Windows, held_out: Sequence[ScoredWindow], *, resume: bool) -> TrainState:
    """Train from the newest checkpoint in `out`, or from the beginning, to the last step.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came, and the state is saved.
        click.ClickException: the loss is no longer finite.
    """
    config, model = record.config, make_model(record.config, record.vocabulary)
    with Checkpoints(out) as checkpoints, _signals_noted() as signals:
        start = checkpoints.latest_step() or 0
        if start:
            click.echo(f"Going on from step {start} of {config.steps}.")
            state = checkpoints.restore(start, jax.eval_shape(lambda: init(config, model)))
        else:
            if resume:
                click.echo("No checkpoint had been saved: beginning anew at step 0.")
            state = init(config, model)

        with Metrics(out, start) as metrics, _progress() as progress:
            log = _Log(metrics, progress, config, start)
            unlogged = None
            for step in range(start + 1, config.steps + 1):
                state, loss = train_step(config, model, state, windows[step - 1])
                # A loss is read while the next step is being computed, so that the device never waits.
                if unlogged is not None:
                    log(step - 1, float(unlogged))
                unlogged = loss
                # Read once: a signal that comes later is for the next step.
                planned, stop = step % config.save_every == 0 or step == config.steps, bool(signals)
                if planned:
                    log(step, float(loss), held_out_bits_per_character=held_out_bits(model, state, held_out))
                elif stop:
                    log(step, float(loss))
                if planned or stop:
                    unlogged = None
                    checkpoints.save(step, state)
                if stop:
                    break
        if signals:
            raise KeyboardInterrupt(f"Step {state.step} of {config.steps} is saved.")
    return state


def held_out_bits(model: CharacterModel, state: TrainState, windows: Sequence[ScoredWindow]) -> float:
    """Mean bits per character of the windows' targets, the LSTM's state carried from each window to the next."""
    carry = jax.tree.map(jnp.zeros_like, state.carry)
    total = 0.0
    for window in windows:
        carry, bits = score_window(model, state.params, carry, window)
        total += float(bits)
    return total / sum(int(window.counts.sum()) for window in windows)


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """SIGINT and SIGTERM go into a list for the loop to look at; a second one acts as it did before."""
    noted: list[int] = []

    def note(number: int, _frame: Any) -> None:
        noted.append(number)
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()


class _Log:
    """Writes a step's loss to the metrics and shows it on the progress bar, which counts characters."""

    def __init__(self, metrics: Metrics, progress: Progress, config: TrainConfig, start: int):
        self._metrics, self._progress, self._steps = metrics, progress, config.steps
        self._characters = config.batch * config.window
        self._task = progress.add_task(
            "",
            total=config.steps * self._characters,
            completed=start * self._characters,
            status=f"{start}/{config.steps}",
        )

    def __call__(self, step: int, loss: float, **more: float) -> None:
        if not math.isfinite(loss):
            raise click.ClickException(f"The loss is {loss} at step {step}. Try a lower --learning-rate.")
        characters, bits = step * self._characters, loss / math.log(2)
        self._metrics.write(step=step, characters=characters, loss=loss, bits_per_character=bits, **more)
        status = f"{step}/{self._steps}  loss {loss:.3f}, {bits:.3f} bits/char"
        self._progress.update(self._task, completed=characters, status=status)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} char/s")


def _progress() -> Progress:
    return Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.fields[status]}"),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
    )
