"""Which implementation runs a layer: the table of kernels, and the choice by name or, for None, by platform."""

import functools
from collections.abc import Container
from typing import Any

import jax

from jaxlstm._stack import Layer
from jaxlstm._types import Cell
from jaxlstm.cells import GRU, LSTM
from jaxlstm.implementations import cudnn, native, pallas, xla
from jaxlstm.implementations._differentiable import Run, layer
from jaxlstm.implementations._protocol import Call, Entry, call_of, refused, why_not, why_not_by_default


def _single_step(x: jax.Array, state: Any) -> str | None:
    del state
    return "a single step (T = 1) has no weight to hold" if x.shape[0] == 1 else None


# Written out, and not taken from the table of parameters: what is new there no kernel takes until its author says so.
_PLAIN = frozenset({"weight_ih", "weight_hh", "bias_ih", "bias_hh", "lengths"})

KERNELS = [
    Entry(
        "native",
        native,
        platform="cpu",
        cells=(LSTM, GRU),
        takes=_PLAIN | {"weight_hr", "resets"},
        proven=True,
        why_slower=native.why_slower,
        by_rows=True,
        exports=False,
        first_gradient_only=False,
    ),
    Entry(
        "pallas",
        pallas,
        platform="tpu",
        cells=(LSTM,),
        takes=_PLAIN | {"resets"},
        proven=False,
        why_slower=_single_step,
        by_rows=True,
        exports=True,
        first_gradient_only=False,
    ),
    Entry(
        "cudnn",
        cudnn,
        platform="cuda",
        cells=(LSTM,),
        takes=_PLAIN,
        proven=False,
        why_slower=_single_step,
        by_rows=False,
        exports=True,
        first_gradient_only=True,
    ),
]
"""The kernels, of one platform the better before the worse; `proven=True` lets None take one."""

PLATFORMS = tuple(dict.fromkeys(entry.platform for entry in KERNELS))
"""Those that there are kernels for."""


@functools.cache
def _xla(cell: Cell) -> Layer:
    """`xla` of a cell: one object for each, so that programs with it are found again."""
    return functools.partial(xla.layer, cell)


def passed_over(call: Call) -> dict[str, str]:
    """By its name, the reason why None passes over a kernel; those not in it serve."""
    return {entry.name: reason for entry in KERNELS if (reason := why_not_by_default(entry, call))}


def best(without: Container[str]) -> dict[str, Entry]:
    """By its platform, the first kernel whose name is not among these; where there is none, `xla` is the best."""
    first: dict[str, Entry] = {}
    for entry in KERNELS:
        if entry.name not in without:
            first.setdefault(entry.platform, entry)
    return first


def _named(entry: Entry, *args: Any, reverse: bool, **kwargs: Any) -> tuple[jax.Array, Any]:
    """One kernel, or the reason why not; called as `xla.layer` is."""
    call = call_of(*args, **kwargs)
    reason = why_not(entry, call)
    if reason is not None:
        raise refused(entry.name, reason)
    reference = None if entry.first_gradient_only else _xla(call.cell)
    return layer(Run((entry,), None, reference, reverse), call.operands, call.masks)


def _best(*args: Any, reverse: bool, **kwargs: Any) -> tuple[jax.Array, Any]:
    """On each platform that the program may be made for, its first kernel that serves, else `xla`; called as that."""
    call = call_of(*args, **kwargs)
    kernels = best(passed_over(call))
    if not kernels:
        return xla.layer(*args, reverse=reverse, **kwargs)
    return layer(Run(tuple(kernels.values()), _xla(call.cell), _xla(call.cell), reverse), call.operands, call.masks)


def by_name(implementation: str | None) -> Layer:
    """The layer function of that name; for None, the one that decides by the platform that a program is made for.

    Raises:
        TypeError: what is no name.
        ValueError: an unknown one.
    """
    layers = {None: _best, "xla": xla.layer} | {entry.name: functools.partial(_named, entry) for entry in KERNELS}
    known = ", ".join(f'"{name}"' for name in layers if name)
    if not isinstance(implementation, str | None):
        raise TypeError(f"implementation: expected None or one of {known}, got {implementation!r}. Pass one name.")
    if implementation not in layers:
        raise ValueError(f"implementation: expected None or one of {known}, got {implementation!r}.")
    return layers[implementation]
