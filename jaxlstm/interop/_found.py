"""The LSTMs that a file holds: listed by name, read when one is picked."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxlstm.interop._cells import stacked


class Found(NamedTuple):
    """One LSTM of a file.

    Attributes:
        params: reads it, as `LSTMParams` or `LSTMCellParams` of numpy's arrays; raises ValueError where it is malformed
            or not an LSTM that this package can run.
        reverse: it runs over time backwards only, which its parameters don't tell.
        upper: it is the upper layers of another one, which alone is listed.
        above: the name of the one that takes its output, where that is known and both are listed.
        note: what else there is to say of it.
    """

    params: Callable[[], Any]
    reverse: bool = False
    upper: bool = False
    above: str | None = None
    note: str = ""


def pick(found: Mapping[str, Found], name: str | None, option: str) -> Found:
    """The one by that name, or the only one, or the only stack; `option` is what a caller names it by."""
    whole = listed(found)
    if not whole:
        raise ValueError("no LSTM found.")
    names = ", ".join(map(repr, whole))
    if name is not None:
        if name not in found:
            raise ValueError(f"{option}: no LSTM {name!r}, only {names}.")
        return found[name]
    layers = list(whole.values())
    if [each.above for each in layers] != [*list(whole)[1:], None]:
        notes = "; ".join(sorted({each.note for each in layers if each.note}))
        raise ValueError(
            f"{len(whole)} LSTMs found. Choose one by {option}: {names}.{f' A name here is {notes}.' if notes else ''}"
        )
    if len(layers) == 1:
        return layers[0]
    return Found(lambda: stacked(layer for each in layers for layer in each.params()))


def listed(found: Mapping[str, Found]) -> dict[str, Found]:
    """Those that are no part of another."""
    return {name: each for name, each in found.items() if not each.upper}
