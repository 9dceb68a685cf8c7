"""The LSTMs, GRUs and RNNs that a file holds: listed by name, read when one is picked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxlstm._types import Cell
from jaxlstm.interop._cells import CELLS, kind_of, stacked

_KINDS = tuple(map(kind_of, CELLS))


class Found(NamedTuple):
    """One LSTM of a file, or another recurrent layer.

    Attributes:
        params: reads it, as `LSTMParams` or `CellParams` of numpy's arrays; raises ValueError where it is malformed or
            its equations are not those of PyTorch's cell of its kind.
        kind: "LSTM", "GRU" or "RNN".
        reverse: it runs over time backwards only, which its parameters don't tell.
        upper: it is the upper layers of another one, which alone is listed.
        above: the name of the one that takes its output, where that is known and both are listed.
        note: what else there is to say of it.
        variant: reads it with its cell, whatever its equations, in a format that tells them.
    """

    params: Callable[[], Any]
    kind: str = "LSTM"
    reverse: bool = False
    upper: bool = False
    above: str | None = None
    note: str = ""
    variant: Callable[[], tuple[Cell, Any]] | None = None


def pick(found: Mapping[str, Found], name: str | None, option: str) -> Found:
    """The one by that name, or else the only LSTM, or the only stack; where there is no LSTM, the only GRU, or RNN.

    `option` is what a caller names it by.
    """
    whole = listed(found)
    if not whole:
        raise ValueError("no LSTM found, nor a GRU or RNN.")
    if name is not None:
        if name not in found:
            raise ValueError(f"{option}: no LSTM {name!r}, only {', '.join(map(repr, whole))}.")
        return found[name]
    kind = min((each.kind for each in whole.values()), key=_KINDS.index)
    whole = {name: each for name, each in whole.items() if each.kind == kind}
    names, layers = ", ".join(map(repr, whole)), list(whole.values())
    if [each.above for each in layers] != [*list(whole)[1:], None]:
        notes = "; ".join(sorted({each.note for each in layers if each.note}))
        raise ValueError(
            f"{len(whole)} {kind}s found. Choose one by {option}: {names}."
            + (f" {notes[0].upper()}{notes[1:]}." if notes else "")
        )
    if len(layers) == 1:
        return layers[0]
    return Found(
        lambda: stacked(layer for each in layers for layer in each.params()), kind, variant=lambda: _joined(layers)
    )


def _joined(layers: Sequence[Found]) -> tuple[Cell, Any]:
    """Layers of equal cells as one stack."""
    cells, params = zip(*map(with_cell, layers), strict=True)
    return one_cell(cells), stacked(layer for each in params for layer in each)


def with_cell(found: Found) -> tuple[Cell, Any]:
    """The cell that runs it, and its parameters, of a format that tells cells."""
    assert found.variant is not None
    return found.variant()


def one_cell(cells: Sequence[Cell]) -> Cell:
    """The cell of a stack's layers."""
    if any(cell != cells[0] for cell in cells):
        raise ValueError("expected layers of the same equations, which run as one stack. Read them one by one.")
    return cells[0]


def listed(found: Mapping[str, Found]) -> dict[str, Found]:
    """Those that are no part of another."""
    return {name: each for name, each in found.items() if not each.upper}
