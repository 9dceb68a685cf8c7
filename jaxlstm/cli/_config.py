"""The options of a training run: the one place for their names, defaults, ranges and help."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable)

EMBEDDING_SIZE = 64
"""Input size of the first LSTM layer."""

DEFAULT_OUT = Path("runs/train")
"""A run's folder, if nothing else is said."""


class FiniteRange(click.FloatRange):
    """A range of numbers; click's own lets NaN through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, refused if it is out of the range, infinite or NaN."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


SEED = click.IntRange(0, 2**32 - 1)
"""What seeds are: NumPy's and JAX's generators both take these."""

_COUNT = click.IntRange(min=1)
_POSITIVE = FiniteRange(min=0, min_open=True)
_SHARE = FiniteRange(0, 1)


def _option(default: Any, type: click.ParamType, text: str, *also: str) -> Any:
    return dataclasses.field(default=default, metadata={"type": type, "help": text, "also": also})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that, with the text, fixes every loss of a run.

    Raises:
        ValueError: options that don't go together. What each may be by itself, the command line sees to.
    """

    steps: int = _option(3200, _COUNT, "Training steps.")
    hidden: int = _option(
        384, _COUNT, f"Hidden size H of each LSTM layer; the first reads embeddings of size {EMBEDDING_SIZE}."
    )
    layers: int = _option(1, _COUNT, "LSTM layers L.")
    dropout: float = _option(
        0.0,
        _SHARE,
        "Share of a layer's output that the next layer does not see; which, differs with the number of devices.",
    )
    batch: int = _option(16, _COUNT, "Stretches of text B read side by side.")
    window: int = _option(64, _COUNT, "Characters T of truncated backpropagation; the state carries on past them.")
    learning_rate: float = _option(6e-3, _POSITIVE, "Peak learning rate of AdamW.", "--lr")
    warmup: float = _option(0.05, _SHARE, "Share of the steps in which the rate rises; then it falls as a cosine.")
    weight_decay: float = _option(1e-4, FiniteRange(min=0), "Weight decay of AdamW.")
    clip: float = _option(1.0, _POSITIVE, "Largest global norm of the gradients; larger ones are scaled down.")
    dtype: str = _option("float32", click.Choice(["float32", "bfloat16"]), "What the model computes in.")
    seed: int = _option(0, SEED, "Seed of the initial parameters and of dropout.")
    save_every: int = _option(
        800, _COUNT, "Steps from one checkpoint, and held-out loss, to the next; the two newest checkpoints are kept."
    )

    def __post_init__(self) -> None:
        if self.dropout > 0 and self.layers == 1:
            raise ValueError(
                f"--dropout {self.dropout}: it acts between layers, and --layers is 1. Give more layers or no dropout."
            )


def flag(name: str) -> str:
    """The command line's spelling of a field's name."""
    return "--" + name.replace("_", "-")


def train_options(command: Command) -> Command:
    """Give a click command one option for each field of `TrainConfig`."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        command = click.option(
            flag(field.name),
            *field.metadata["also"],
            type=field.metadata["type"],
            default=field.default,
            show_default=True,
            help=field.metadata["help"],
        )(command)
    return command
