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
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from jaxlstm.cli._checkpoints import Checkpoints
from jaxlstm.cli._config import TrainConfig
from jaxlstm.cli._devices import BATCH, spread
from jaxlstm.cli._job import Job
from jaxlstm.cli._model import (
    WINDOW_SPECS,
    CharacterModel,
    TrainState,
    init,
    make_model,
    score_window,
    state_shape,
    train_step,
)
from jaxlstm.cli._run import Metrics
from jaxlstm.cli._windows import ScoredWindow


def fit(out: Path, job: Job, mesh: Mesh, *, resume: bool) -> TrainState:
    """Train from the newest checkpoint in `out`, or from the beginning, to the last step.

    Every process of the run calls it; the first one alone writes losses and shows progress.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came to a process, and the state is saved.
        click.ClickException: the loss is no longer finite.
    """
    config, model = job.record.config, make_model(job.record.config, job.record.vocabulary)
    leads = jax.process_index() == 0
    with Checkpoints(out) as checkpoints, _signals_noted() as signals:
        start = checkpoints.latest_step() or 0
        if start:
            said = f"Going on from step {start} of {config.steps}."
            state = checkpoints.restore(start, state_shape(config, model, mesh))
        else:
            said = "No checkpoint had been saved: beginning anew at step 0." if resume else None
            state = init(config, model, mesh)
        if leads and said:
            click.echo(said)

        metrics = Metrics(out, start) if leads else contextlib.nullcontext()
        with metrics as lines, _progress(shown=leads) as progress:
            log = _Log(lines, progress, config, start)
            stop, unread = False, None
            for step in range(start + 1, config.steps + 1):
                window = spread(mesh, WINDOW_SPECS, job.windows[step - 1])
                told = spread(mesh, P(BATCH), np.full(mesh.size, bool(signals)))
                state, result = train_step(config, model, mesh, state, window, told)
                # A step's result is read while the next step is being computed, so that the device never waits.
                # All processes read the same in it, and stop together.
                if unread is not None:
                    log(step - 1, float(unread.loss))
                    stop = bool(unread.stop)
                unread = result
                if step % config.save_every == 0 or step == config.steps:
                    score = held_out_bits(model, mesh, state, job.scored)
                    log(step, float(result.loss), held_out_bits_per_character=score)
                    stop = stop or bool(result.stop)
                elif stop:
                    log(step, float(result.loss))
                else:
                    continue
                unread = None
                checkpoints.save(step, state)
                if stop:
                    raise KeyboardInterrupt(f"Step {step} of {config.steps} is saved.")
    return state


def held_out_bits(model: CharacterModel, mesh: Mesh, state: TrainState, windows: Sequence[ScoredWindow]) -> float:
    """Mean bits per character of the windows' targets, the LSTM's state carried from each window to the next."""
    carry = jax.tree.map(jnp.zeros_like, state.carry)
    total = 0.0
    for window in windows:
        carry, bits = score_window(model, mesh, state.params, carry, spread(mesh, WINDOW_SPECS.inputs, window))
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

    def __init__(self, metrics: Metrics | None, progress: Progress, config: TrainConfig, start: int):
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
        if self._metrics is not None:
            self._metrics.write(step=step, characters=characters, loss=loss, bits_per_character=bits, **more)
        status = f"{step}/{self._steps}  loss {loss:.3f}, {bits:.3f} bits/char"
        self._progress.update(self._task, completed=characters, status=status)


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} char/s")


def _progress(*, shown: bool) -> Progress:
    return Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.fields[status]}"),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True, quiet=not shown),
    )
