"""A run's checkpoints: each a safetensors file, whole or not there, with a digest that tells when it is damaged."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import jax
import numpy as np
import safetensors
import safetensors.numpy

from jaxlstm._write import naming, replacing
from jaxlstm.cli._streams import say

FOLDER = "checkpoints"
"""In a run's."""

_NAME = re.compile(r"(\d+)\.safetensors")
_DIGEST = "sha256"


class Damaged(ValueError):
    """A checkpoint, or what belongs to it, is not what was saved."""


class Saved(NamedTuple):
    """A checkpoint that is whole: its step, its file, its arrays by their names, and what was said of them."""

    step: int
    path: Path
    arrays: dict[str, np.ndarray]
    about: dict[str, str]


class Checkpoints:
    """The newest two states of a run, in `out / FOLDER`; there may be a process that writes while another reads.

    Args:
        out: the run's folder.
    """

    def __init__(self, out: Path):
        self._out, self._folder = out, out / FOLDER

    def steps(self) -> list[int]:
        """Of all that there are, in order."""
        if not self._folder.is_dir():
            return []
        return sorted(int(match[1]) for name in os.listdir(self._folder) if (match := _NAME.fullmatch(name)))

    def path(self, step: int) -> Path:
        """Where the state of a step is."""
        return self._folder / f"{step}.safetensors"

    def save(self, step: int, state: Any, **about: str) -> None:
        """Write a state, whose arrays are whole on this process; it counts when this returns, and older ones go.

        Raises:
            OSError: it can't be written; the older ones are still there.
        """
        arrays = {name: np.asarray(leaf) for name, leaf in _named(state).items()}
        metadata = about | {_DIGEST: _digest(arrays, about)}
        self._folder.mkdir(exist_ok=True)
        with naming(self.path(step)), replacing(self.path(step)) as temporary:
            temporary.write_bytes(safetensors.numpy.save(arrays, metadata))
        others = set(self.steps()) - {step}
        # Those that are newer are of no use: the run went on from before them.
        for other in others - {max((k for k in others if k < step), default=None)}:
            self.path(other).unlink(missing_ok=True)

    def read(self, step: int) -> Saved:
        """The state of a step.

        Raises:
            OSError: there is none, or it can't be read.
            Damaged: it is not what was saved.
        """
        path = self.path(step)
        path.open("rb").close()  # For Python's own words on what can't be read.
        try:
            with safetensors.safe_open(path, framework="np") as file:
                about = dict(file.metadata() or {})
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except Exception as error:  # A header of nonsense may end in any.
            raise Damaged(f"{path}: damaged ({error}).") from error
        if about.pop(_DIGEST, None) != _digest(arrays, about):
            raise Damaged(f"{path}: damaged (its SHA-256 is not that of what was saved).")
        return Saved(step, path, arrays, about)

    def newest(self, check: Callable[[Saved], None] = lambda _: None) -> Saved | None:
        """The newest one that is whole, with a line for each one passed over; None if nothing was ever saved.

        Args:
            check: raises Damaged for one that can't be used.

        Raises:
            OSError: one can't be read.
            click.UsageError: none is whole.
        """
        reasons: dict[int, str] = {}
        steps = self.steps()
        while True:
            for step in reversed(steps):
                try:
                    saved = self.read(step)
                    check(saved)
                except FileNotFoundError:  # Deleted meanwhile by the process that trains, which has a newer one.
                    continue
                except Damaged as error:
                    reasons[step] = str(error)
                else:
                    for reason in reasons.values():
                        say(f"{reason} The checkpoint of step {step} is used.")
                    return saved
            if steps == (steps := self.steps()):
                break
        if reasons:
            raise click.UsageError(
                f"{self._out}: no checkpoint can be used. {' '.join(reasons.values())} Put them back, or give another "
                "--out."
            )
        return None


def restored(saved: Saved, like: Any) -> Any:
    """A checkpoint's arrays in the tree of `like`, of `jax.ShapeDtypeStruct`.

    Raises:
        click.UsageError: they are not those of such a tree.
    """
    wanted = _named(like)
    kinds = {name: (array.shape, array.dtype) for name, array in saved.arrays.items()}
    if kinds != {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}:
        raise click.UsageError(f"{saved.path}: not a checkpoint of this run: it holds other arrays.")
    return jax.tree.unflatten(jax.tree.structure(like), [saved.arrays[name] for name in wanted])


def _named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _digest(arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> str:
    """SHA-256 of all that a checkpoint says."""
    kinds = {name: [str(array.dtype), array.shape] for name, array in arrays.items()}
    whole = hashlib.sha256(json.dumps([kinds, about], sort_keys=True).encode())
    for name in sorted(arrays):
        whole.update(arrays[name].tobytes())
    return whole.hexdigest()
