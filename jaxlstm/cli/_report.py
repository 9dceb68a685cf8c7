"""What is shown at a run's end: held-out score beside compressors', the loss's picture, a sample."""

import shlex
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from jaxlstm.cli import _run
from jaxlstm.cli._compressors import COMPRESSORS, Yardstick, yardsticks
from jaxlstm.cli._devices import own
from jaxlstm.cli._job import Job
from jaxlstm.cli._model import TrainState, continuation, make_model
from jaxlstm.cli._plot import plot_loss
from jaxlstm.cli._streams import say
from jaxlstm.cli._text import default_prompt


def report(out: Path, job: Job, state: TrainState) -> None:
    """Write `loss.png`, and print the score, a sample, and where things are."""
    record, lines = job.record, _run.read_metrics(out)
    say(f"Compressing the text with {', '.join(COMPRESSORS)} to compare, and drawing the losses.")
    compressed = yardsticks(job.train_text, job.held_out)
    plot_loss(out / _run.PLOT, lines, compressed)
    score, guess = lines[-1]["held_out_bits_per_character"], job.guess_bits()
    Console().print(_table(score, compressed))
    if score > guess:
        say(
            f"Worse than guessing: each character alike would take {guess:.3f} bits, and this LSTM takes {score:.3f}. "
            "Begin another run with a lower --learning-rate, or with more --steps."
        )
    model = make_model(record.config, record.vocabulary)
    prompt = default_prompt(record.vocabulary)
    text = continuation(
        model, own(state.params), record.vocabulary, prompt, 500, temperature=0.7, seed=record.config.seed
    )
    click.echo(f"A sample:\n{text}\n")
    click.echo(f"Losses, their picture and checkpoints are in {out}. More text: jaxlstm sample {shlex.quote(str(out))}")


def _table(score: float, compressed: dict[str, Yardstick]) -> Table:
    table = Table(title="Bits per character of the held-out text", title_justify="left")
    table.add_column("")
    table.add_column("having read the training text", justify="right")
    table.add_column("on its own", justify="right")
    table.add_row("this LSTM", f"{score:.3f}", "")
    for name, bits_of in compressed.items():
        table.add_row(name, f"{bits_of.after:.3f}", f"{bits_of.alone:.3f}")
    return table
