"""A finished or running run of `jaxlstm train`, in Python."""

import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import click
import flax.linen as nn
import jax

from jaxlstm.cli import _run
from jaxlstm.cli._checkpoints import Checkpoints, Saved, restored
from jaxlstm.cli._devices import make_mesh
from jaxlstm.cli._model import make_model, state_shape

LSTM_NAME = "params.params.lstm"
"""Of the LSTM in a checkpoint's file."""


class Run(NamedTuple):
    """What `load_run` gives.

    Attributes:
        module: a Linen module. `module.apply(params, ids, state)` takes `ids`, `int[T]` or `int[T, B]`, and the LSTM's
            state, or None where a text begins, to the logits of each next character, `[T, V]` or `[T, B, V]`, and the
            state behind the last one.
        params: its variables, float32; those of the LSTM are at `params["params"]["lstm"]`, under PyTorch's names.
        vocabulary: the V - 1 characters of the training text, in order. The k-th, from 0, has the id k + 1; 0 is
            for all others.
    """

    module: nn.Module
    params: Any
    vocabulary: str


def load_run(path: str | os.PathLike) -> Run:
    """The newest checkpoint of a run of `jaxlstm train`, which may still be going on.

    Args:
        path: the run's folder, such as `runs/train`.

    Returns:
        Its module, parameters and vocabulary.

    Raises:
        OSError: a file of it can't be read.
        ValueError: there is no run, it has no checkpoint yet, or it is damaged.

    After `jaxlstm train`:

        import jax.numpy as jnp
        from jaxlstm.cli import load_run

        module, params, vocabulary = load_run("runs/train")
        ids = jnp.array([vocabulary.index(character) + 1 for character in "def "])
        logits, state = module.apply(params, ids)
        next_character = vocabulary[logits[-1, 1:].argmax()]
    """
    try:
        record = _run.load(Path(path))
        _, params = newest_params(Path(path), record)
    except click.UsageError as error:
        raise ValueError(error.message) from error
    return Run(make_model(record.config, record.vocabulary), params, record.vocabulary)


def newest_params(out: Path, record: _run.Record) -> tuple[int, Any]:
    """The step of a run's newest checkpoint, and the parameters in it, on one device.

    Raises:
        click.UsageError: there is none.
    """
    like = state_shape(record.config, make_model(record.config, record.vocabulary), make_mesh())
    saved = newest(out)
    return saved.step, jax.device_put(restored(saved, like).params)


def newest(out: Path) -> Saved:
    """The newest checkpoint of a run.

    Raises:
        click.UsageError: there is no run, or none of it.
    """
    _run.load(out)
    saved = Checkpoints(out).newest()
    if saved is None:
        go_on = f"jaxlstm train --resume --out {shlex.quote(str(out))}"
        raise click.UsageError(f"{out}: the run has no checkpoint yet. Go on with it: {go_on}")
    return saved
