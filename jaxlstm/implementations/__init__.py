"""The ways to run one layer: a table from name to function, and why a way can't serve.

Each file here without an underscore is one implementation: `xla` of `jaxlstm._stack.Layer`, which runs everywhere, and
the kernels of `jaxlstm.implementations._kernel.Kernel`.
"""

import functools
from typing import Any

import jax

from jaxlstm._stack import Layer
from jaxlstm._types import LSTMCellParams, LSTMState
from jaxlstm.implementations import cudnn, native, pallas, xla
from jaxlstm.implementations._kernel import Entry, Masks, Operands, Run, layer, refused

KERNELS = [
    Entry("pallas", pallas, platform="tpu", proven=False, by_rows=True, exports=True),
    Entry("cudnn", cudnn, platform="cuda", proven=False, by_rows=False, exports=True),
    Entry("native", native, platform="cpu", proven=True, by_rows=True, exports=False),
]
"""The kernels, of one platform the better before the worse; `proven=True` lets None take one."""


def _first_gradient_only(*_: Any, **__: Any):
    raise refused("cudnn", "it has no forward mode and no second derivative")


REFERENCES: dict[str, Layer] = {"cudnn": _first_gradient_only}
"""Where forward mode and higher derivatives of a kernel come from that was asked for by name, if not from `xla`."""


def why_not(
    entry: Entry, operands: Operands, reset_state: LSTMState | None, masks: Masks, **options: Any
) -> str | None:
    """The reason why a kernel can't run such a layer, on whatever platform; None if it can."""
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
    if operands.x.shape[0] == 1:
        return "a single step (T = 1) has no weight to hold"
    if entry.name == "native":
        return native.why_not_unasked(operands.x, operands.state)
    return None


def _named(
    entry: Entry,
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    reset_state: LSTMState | None,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    **options: Any,
) -> tuple[jax.Array, LSTMState]:
    """One kernel, or the reason why not."""
    operands, masks = Operands(params, x, state), Masks(lengths, begins)
    reason = why_not(entry, operands, reset_state, masks, **options)
    if reason is not None:
        raise refused(entry.name, reason)
    return layer(Run((entry,), None, REFERENCES.get(entry.name, xla.layer), options["reverse"]), operands, masks)


def _best(
    params: LSTMCellParams,
    x: jax.Array,
    state: LSTMState,
    reset_state: LSTMState | None,
    *,
    lengths: jax.Array | None,
    begins: jax.Array | None,
    **options: Any,
) -> tuple[jax.Array, LSTMState]:
    """On each platform that the program may be made for: its first kernel that serves, else `xla`."""
    operands, masks = Operands(params, x, state), Masks(lengths, begins)
    first: dict[str, Entry] = {}
    for entry in KERNELS:
        if why_not_unasked(entry, operands) is None and why_not(entry, operands, reset_state, masks, **options) is None:
            first.setdefault(entry.platform, entry)
    if not first:
        return xla.layer(params, x, state, reset_state, lengths=lengths, begins=begins, **options)
    return layer(Run(tuple(first.values()), xla.layer, xla.layer, options["reverse"]), operands, masks)


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
