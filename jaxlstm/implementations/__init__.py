"""The ways to run one layer: a table from name to function, and why a way can't serve.

Each file here without an underscore is one implementation: `xla` of `jaxlstm._stack.Layer`, which runs everywhere, and
the kernels of `jaxlstm.implementations._kernel.Kernel`.
"""

import functools
from typing import Any

import jax

from jaxlstm._stack import Layer
from jaxlstm._types import Cell, CellParams, LSTMState
from jaxlstm.cells import LSTM
from jaxlstm.implementations import cudnn, native, pallas, xla
from jaxlstm.implementations._kernel import Entry, Masks, Operands, Run, layer, refused


def _single_step(x: jax.Array, state: LSTMState) -> str | None:
    del state
    return "a single step (T = 1) has no weight to hold" if x.shape[0] == 1 else None


KERNELS = [
    Entry("native", native, platform="cpu", proven=True, slower=native.slower, by_rows=True, exports=False),
    Entry("pallas", pallas, platform="tpu", proven=False, slower=_single_step, by_rows=True, exports=True),
    Entry("cudnn", cudnn, platform="cuda", proven=False, slower=_single_step, by_rows=False, exports=True),
]
"""The kernels, of one platform the better before the worse; `proven=True` lets None take one."""


def _first_gradient_only(*_: Any, **__: Any):
    raise refused("cudnn", "it has no forward mode and no second derivative")


_XLA = functools.partial(xla.layer, LSTM)

REFERENCES = {"cudnn": _first_gradient_only}
"""Where forward mode and higher derivatives of a kernel come from that was asked for by name, if not from `xla`."""


def why_not(
    entry: Entry, cell: Cell, operands: Operands, reset_state: LSTMState | None, masks: Masks, **options: Any
) -> str | None:
    """The reason why a kernel can't run such a layer, on whatever platform; None if it can."""
    if cell != LSTM:
        return f"it computes the LSTM, not the cell {cell.name}"
    if options["checkpoint_every"] is not None:
        return "it keeps every step for the backward pass (checkpoint_every must be None)"
    if options["unroll"] is not None:
        return "it has no loop to unroll (unroll must be None)"
    if reset_state is not None and masks.begins is not None:
        return "it begins anew from zero only (reset_state must be None)"
    return entry.kernel.why_not(*operands, **masks._asdict(), reverse=options["reverse"])


def why_not_unasked(entry: Entry, operands: Operands) -> str | None:
    """The reason why None passes over a kernel that could run the layer, were it asked for by name."""
    if not entry.proven:
        return "not proven on hardware yet; name it to use it"
    return entry.slower(operands.x, operands.state)


def _named(
    entry: Entry,
    cell: Cell,
    params: CellParams,
    x: jax.Array,
    state: Any,
    reset_state: Any,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    **options: Any,
) -> tuple[jax.Array, Any]:
    """One kernel, or the reason why not."""
    operands, masks = Operands(params, x, state), Masks(lengths, begins)
    reason = why_not(entry, cell, operands, reset_state, masks, **options)
    if reason is not None:
        raise refused(entry.name, reason)
    return layer(Run((entry,), None, REFERENCES.get(entry.name, _XLA), options["reverse"]), operands, masks)


def _best(
    cell: Cell,
    params: CellParams,
    x: jax.Array,
    state: Any,
    reset_state: Any,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    **options: Any,
) -> tuple[jax.Array, Any]:
    """On each platform that the program may be made for: its first kernel that serves, else `xla`."""
    operands, masks = Operands(params, x, state), Masks(lengths, begins)
    first: dict[str, Entry] = {}
    for entry in KERNELS:
        unable = why_not(entry, cell, operands, reset_state, masks, **options)
        if unable is None and why_not_unasked(entry, operands) is None:
            first.setdefault(entry.platform, entry)
    if not first:
        return xla.layer(cell, params, x, state, reset_state, lengths=lengths, begins=begins, **options)
    return layer(Run(tuple(first.values()), _XLA, _XLA, options["reverse"]), operands, masks)


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
