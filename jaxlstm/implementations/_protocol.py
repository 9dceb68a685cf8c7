"""What a kernel is: its two functions, and its row of the table of implementations."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jaxlstm._types import Cell, CellParams


class Operands(NamedTuple):
    """A layer's arguments that a kernel is differentiated in; as `jaxlstm._stack.Layer` describes them."""

    params: CellParams
    x: jax.Array
    state: Any


class Masks(NamedTuple):
    """A layer's other arrays."""

    lengths: jax.Array | None
    resets: jax.Array | None


class Options(NamedTuple):
    """Everything else that a layer is asked for, but its direction: what no kernel is given, and so none can take."""

    reset_state: Any
    checkpoint_every: int | None
    unroll: int | None


class Call(NamedTuple):
    """A layer's arguments, but its direction, by what a kernel does with them."""

    cell: Cell
    operands: Operands
    masks: Masks
    options: Options


def call_of(
    cell: Cell,
    params: CellParams,
    x: jax.Array,
    state: Any,
    reset_state: Any,
    *,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> Call:
    """A call of a layer, whose `reset_state` counts only where there are resets."""
    options = Options(None if resets is None else reset_state, checkpoint_every, unroll)
    return Call(cell, Operands(params, x, state), Masks(lengths, resets), options)


class Kernel(Protocol):
    """What a module that holds a kernel provides: one direction of one layer, forward and transposed."""

    def why_not(self, operands: Operands) -> str | None:
        """The reason why it can't serve such operands, of what its `Entry` says that it takes; None if it can."""
        ...

    def forward(
        self, operands: Operands, masks: Masks, *, reverse: bool, keep: bool
    ) -> tuple[tuple[jax.Array, Any], Any]:
        """The layer's result, and its residuals if `keep`: what `backward` needs besides arguments and result."""
        ...

    def backward(
        self,
        operands: Operands,
        masks: Masks,
        outputs: tuple[jax.Array, Any],
        residuals: Any,
        cotangents: tuple[jax.Array, Any],
        *,
        reverse: bool,
    ) -> Operands:
        """The cotangents of the operands."""
        ...


class Entry(NamedTuple):
    """A kernel in the table of implementations."""

    name: str
    kernel: Kernel
    platform: str
    """On which it runs: "cpu", "tpu" or "cuda"."""
    cells: tuple[Cell, ...]
    """Those whose layers it computes."""
    takes: frozenset[str]
    """Of the fields of `CellParams` and `Masks`, those that may be other than None."""
    proven: bool
    """Whether its tests have passed on that hardware: until then it runs only where it is named."""
    why_slower: Callable[[jax.Array, Any], str | None]
    """Why `xla` is faster on such an x and state, of a layer that it can run; None if it is not."""
    by_rows: bool
    """Whether some rows' results need only these rows, and all residuals are `[T, B, ...]`: devices may share B."""
    exports: bool
    """Whether a program that `jax.export` writes may hold it."""
    first_gradient_only: bool
    """Whether forward mode and higher derivatives are refused where it is named; if not, `xla` gives them."""


LACKS = {
    "weight_hr": "it has no projection (proj_size must be 0)",
    "resets": "it can't begin anew inside a row (resets must be None)",
    "reset_state": "it resets anew from zero only (reset_state must be None)",
    "checkpoint_every": "it keeps every step for the backward pass (checkpoint_every must be None)",
    "unroll": "it has no loop to unroll (unroll must be None)",
}
"""Why a kernel can't serve that does not take it."""


def why_not(entry: Entry, call: Call) -> str | None:
    """The reason why a kernel can't run such a layer, on whatever platform; None if it can."""
    if call.cell not in entry.cells:
        known = " and the ".join(cell.name.upper() for cell in entry.cells)
        return f"it computes the {known}, not the cell {call.cell.name}"
    given = call.operands.params._asdict() | call.masks._asdict()
    not_taken = {name: value for name, value in given.items() if name not in entry.takes} | call.options._asdict()
    for name, value in not_taken.items():
        if value is not None:
            return LACKS.get(name, f"it does not know {name}")
    return entry.kernel.why_not(call.operands)


def why_not_by_default(entry: Entry, call: Call) -> str | None:
    """The reason why None passes over a kernel, be it able to run the layer or not; None if it does not."""
    unable = why_not(entry, call)
    if not entry.proven:
        unproven = "not proven on hardware yet; name it to use it"
        return unproven if unable is None else f"{unproven}. Here, too: {unable}"
    # A kernel knows how fast it is only of a layer that it can run.
    return unable or entry.why_slower(call.operands.x, call.operands.state)


def refused(name: str, reason: str) -> NotImplementedError:
    """The error for an implementation that was asked for by name and can't serve."""
    return NotImplementedError(f'implementation="{name}": {reason}. Use "xla" or None.')
