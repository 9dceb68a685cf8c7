"""The training loop: steps, log, held-out score, checkpoints, and a stop by signal that loses nothing."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxlstm.cli import _run, _signals
from jaxlstm.cli._checkpoints import Checkpoints, Damaged, Saved, restored
from jaxlstm.cli._config import TrainConfig
from jaxlstm.cli._devices import BATCH, agreed, gathered, own, spread
from jaxlstm.cli._job import Job
from jaxlstm.cli._model import (
    STATE_SPECS,
    WINDOW_SPECS,
    CharacterModel,
    TrainState,
    init,
    is_finite,
    make_model,
    score_window,
    state_shape,
    train_step,
)
from jaxlstm.cli._progress import Update, progress
from jaxlstm.cli._streams import say
from jaxlstm.cli._windows import ScoredWindow


def fit(out: Path, job: Job, mesh: Mesh, *, resume: bool) -> TrainState:
    """Train from the newest checkpoint in `out`, or from the beginning, to the last step.

    Every process of the run calls it; the first one alone writes, and shows progress.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came to a process, and the state is saved.
        click.ClickException: the loss or the state is no longer finite, and was not saved.
        OSError: something can't be read or written.
    """
    config, model = job.record.config, make_model(job.record.config, job.record.vocabulary)
    leads = jax.process_index() == 0
    checkpoints = Checkpoints(out)
    with _signals.noted() as signals:
        start = agreed(_newest_step(out, checkpoints) if leads else 0)
        if start:
            said = f"Going on from step {start} of {config.steps}."
            if start == config.steps:
                said = f"Finished already, at step {start} of {config.steps}. For more, give --steps a larger number."
            arrays = restored(checkpoints.read(start), state_shape(config, model, mesh))
            state = spread(mesh, STATE_SPECS, arrays)
        else:
            said = "No checkpoint had been saved: beginning anew at step 0." if resume else None
            state = init(config, model, mesh)
        if leads and said:
            click.echo(said)

        characters = config.batch * config.window
        metrics = _run.Metrics(out, start) if leads else contextlib.nullcontext()
        done, total = start * characters, config.steps * characters
        bar = progress(total, done, unit="char") if leads else contextlib.nullcontext()
        with metrics as lines, bar as update:
            log = _Log(lines, update, config)
            stop, unread = 0, None
            if start < config.steps:
                log.update(start, "compiling")
            for step in range(start + 1, config.steps + 1):
                window = spread(mesh, WINDOW_SPECS, job.windows[step - 1])
                stop_signal = spread(mesh, P(BATCH), np.full(mesh.size, signals[0] if signals else 0, np.int32))
                state, result = train_step(config, model, mesh, state, window, stop_signal)
                # A step's result is read while the next step is being computed, so that the device never waits.
                # All processes read the same in it, and stop together.
                if unread is not None:
                    log(step - 1, float(unread.loss))
                    stop = int(unread.stop)
                unread = result
                if step % config.save_every == 0 or step == config.steps:
                    log.update(step, "scoring held-out text")
                    score = held_out_bits(model, mesh, state, job.scored)
                    log(step, float(result.loss), held_out_bits_per_character=score)
                    stop = stop or int(result.stop)
                elif stop:
                    log(step, float(result.loss))
                else:
                    continue
                unread = None
                if not is_finite(state):
                    raise _diverged(f"The model's parameters are not finite after step {step}.")
                whole = state._replace(params=own(state.params), opt_state=own(state.opt_state), step=own(state.step))
                whole = whole._replace(carry=gathered(state.carry))
                if lines is not None:
                    checkpoints.save(step, whole, metrics=lines.digest())
                    log.saved(step)
                if stop:
                    raise _signals.Stopped(stop, f"Step {step} of {config.steps} is saved.")
    return state


def _newest_step(out: Path, checkpoints: Checkpoints) -> int:
    """The newest step whose checkpoint, and whose losses, are those that were saved; 0 if none ever was."""

    def check(saved: Saved) -> None:
        if _run.metrics_digest(out, saved.step) != saved.about["metrics"]:
            raise Damaged(f"{out / _run.METRICS}: damaged (the lines of the first {saved.step} steps are others).")

    saved = checkpoints.newest(check)
    return saved.step if saved else 0


def held_out_bits(model: CharacterModel, mesh: Mesh, state: TrainState, windows: Sequence[ScoredWindow]) -> float:
    """Mean bits per character of the windows' targets, the LSTM's state carried from each window to the next."""
    carry = jax.tree.map(jnp.zeros_like, state.carry)
    total = 0.0
    for window in windows:
        carry, bits = score_window(model, mesh, state.params, carry, spread(mesh, WINDOW_SPECS.inputs, window))
        total += float(bits)
    return total / sum(int(window.counts.sum()) for window in windows)


def _diverged(words: str) -> click.ClickException:
    return click.ClickException(
        f"{words} Begin another run with a lower --learning-rate; the checkpoints of this one are from before."
    )


class _Log:
    """Writes a step's loss to the metrics, and shows it beside the characters read; None is no place for it."""

    def __init__(self, metrics: _run.Metrics | None, update: Update | None, config: TrainConfig):
        self._metrics, self._update, self._steps = metrics, update, config.steps
        self._characters = config.batch * config.window
        self._bits, self._held_out = "", None

    def __call__(self, step: int, loss: float, *, held_out_bits_per_character: float | None = None) -> None:
        more = {}
        if held_out_bits_per_character is not None:
            more["held_out_bits_per_character"] = held_out_bits_per_character
        for name, value in {"loss": loss, **more}.items():
            if not math.isfinite(value):
                raise _diverged(f"The {name.replace('_', ' ')} is {value} at step {step}.")
        characters, bits = step * self._characters, loss / math.log(2)
        if self._metrics is not None:
            self._metrics.write(step=step, characters=characters, loss=loss, bits_per_character=bits, **more)
        self._bits, self._held_out = f"{bits:.3f}", held_out_bits_per_character
        self.update(step, f"{self._bits} bits/char")

    def saved(self, step: int) -> None:
        """Show the last step's loss beside that of the held-out text, if that was scored."""
        if self._held_out is not None:
            say(f"Step {step} is saved: {self._bits} bits per character in training, {self._held_out:.3f} held out.")

    def update(self, step: int, doing: str) -> None:
        """Show what is being done."""
        if self._update is not None:
            self._update(step * self._characters, f"{step}/{self._steps}  {doing}")
