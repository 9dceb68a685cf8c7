"""The ways to run one layer: a table from name to function, and why a way can't serve.

Each file here without an underscore is one implementation: `xla` of `jaxlstm._stack.Layer`, which runs everywhere, and
the kernels of `jaxlstm.implementations._table.Kernel`.
"""

import functools
from typing import Any

import jax

from jaxlstm._stack import Layer
from jaxlstm._types import Cell, CellParams
from jaxlstm.cells import GRU, LSTM
from jaxlstm.implementations import cudnn, native, pallas, xla
from jaxlstm.implementations._kernel import Run, layer
from jaxlstm.implementations._table import Entry, Masks, Operands, Options, refused, why_not, why_not_unasked

__all__ = ["KERNELS", "Entry", "Masks", "Operands", "Options", "by_name", "why_not", "why_not_unasked"]


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
        slower=native.slower,
        by_rows=True,
        exports=False,
    ),
    Entry(
        "pallas",
        pallas,
        platform="tpu",
        cells=(LSTM,),
        takes=_PLAIN | {"resets"},
        proven=False,
        slower=_single_step,
        by_rows=True,
        exports=True,
    ),
    Entry(
        "cudnn",
        cudnn,
        platform="cuda",
        cells=(LSTM,),
        takes=_PLAIN,
        proven=False,
        slower=_single_step,
        by_rows=False,
        exports=True,
        first_gradient_only=True,
    ),
]
"""The kernels, of one platform the better before the worse; `proven=True` lets None take one."""


@functools.cache
def _xla(cell: Cell) -> Layer:
    """`xla` of a cell: one object for each, so that programs with it are found again."""
    return functools.partial(xla.layer, cell)


def _named(
    entry: Entry,
    cell: Cell,
    params: CellParams,
    x: jax.Array,
    state: Any,
    reset_state: Any,
    *,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    reverse: bool,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, Any]:
    """One kernel, or the reason why not."""
    operands, masks = Operands(params, x, state), Masks(lengths, resets)
    reset_state = None if resets is None else reset_state
    reason = why_not(entry, cell, operands, masks, Options(reset_state, checkpoint_every, unroll))
    if reason is not None:
        raise refused(entry.name, reason)
    reference = None if entry.first_gradient_only else _xla(cell)
    return layer(Run((entry,), None, reference, reverse), operands, masks)


def _best(
    cell: Cell,
    params: CellParams,
    x: jax.Array,
    state: Any,
    reset_state: Any,
    *,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    reverse: bool,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, Any]:
    """On each platform that the program may be made for: its first kernel that serves, else `xla`."""
    operands, masks = Operands(params, x, state), Masks(lengths, resets)
    options = Options(None if resets is None else reset_state, checkpoint_every, unroll)
    first: dict[str, Entry] = {}
    for entry in KERNELS:
        unable = why_not(entry, cell, operands, masks, options)
        if unable is None and why_not_unasked(entry, operands) is None:
            first.setdefault(entry.platform, entry)
    if first:
        return layer(Run(tuple(first.values()), _xla(cell), _xla(cell), reverse), operands, masks)
    return xla.layer(
        cell,
        params,
        x,
        state,
        reset_state,
        lengths=lengths,
        resets=resets,
        reverse=reverse,
        checkpoint_every=checkpoint_every,
        unroll=unroll,
    )


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
