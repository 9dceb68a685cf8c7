"""What a training run is told: the one place for the options' names, defaults, bounds and help."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

Command = TypeVar("Command", bound=Callable)

DEFAULT_OUT = Path("runs/train")
"""A run's folder, if nothing else is said."""


class _Bounds(NamedTuple):
    words: str
    hold: Callable[[Any], bool]


_COUNT = _Bounds("a whole number of at least 1", lambda value: value >= 1)
_POSITIVE = _Bounds("a number above 0", lambda value: 0 < value < math.inf)
_NOT_NEGATIVE = _Bounds("a number of at least 0", lambda value: 0 <= value < math.inf)
_SHARE = _Bounds("a number from 0 to 1", lambda value: 0 <= value <= 1)
_SEED = _Bounds("a whole number from 0 to 2**32 - 1", lambda value: 0 <= value < 2**32)
_DTYPE = _Bounds("float32 or bfloat16", lambda value: value in ("float32", "bfloat16"))


def _option(default: Any, bounds: _Bounds, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"bounds": bounds, "help": text})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that, with the text, fixes every loss of a run.

    Raises:
        ValueError: a value out of its bounds, by the option's name.
    """

    steps: int = _option(3200, _COUNT, "Training steps.")
    hidden: int = _option(384, _COUNT, "Hidden size H of each LSTM layer.")
    layers: int = _option(1, _COUNT, "LSTM layers L.")
    dropout: float = _option(
        0.0,
        _SHARE,
        "Share of a layer's output that the next layer does not see; which, differs with the number of devices.",
    )
    batch: int = _option(16, _COUNT, "Stretches of text B read side by side.")
    window: int = _option(64, _COUNT, "Characters T of truncated backpropagation; the state carries on past them.")
    learning_rate: float = _option(6e-3, _POSITIVE, "Peak learning rate of AdamW.")
    warmup: float = _option(0.05, _SHARE, "Share of the steps in which the rate rises; then it falls as a cosine.")
    weight_decay: float = _option(1e-4, _NOT_NEGATIVE, "Weight decay of AdamW.")
    clip: float = _option(1.0, _POSITIVE, "Largest global norm of the gradients; larger ones are scaled down.")
    dtype: str = _option("float32", _DTYPE, "What the model computes in: float32 or bfloat16.")
    seed: int = _option(0, _SEED, "Seed of the initial parameters and of dropout.")
    save_every: int = _option(800, _COUNT, "Steps from one checkpoint, and held-out loss, to the next.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not field.metadata["bounds"].hold(value):
                raise ValueError(f"{flag(field.name)} {value}: expected {field.metadata['bounds'].words}.")
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
            type=type(field.default),
            default=field.default,
            show_default=True,
            help=field.metadata["help"],
        )(command)
    return command
