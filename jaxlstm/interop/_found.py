"""The LSTMs that a file holds: listed by name, read when one is picked."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Found(NamedTuple):
    """One LSTM of a file.

    Attributes:
        params: reads it, as `LSTMParams` or `LSTMCellParams`; raises ValueError where it is malformed or not an LSTM
            that this package can run.
        reverse: it runs over time backwards only, which its parameters don't tell.
        upper: it is the upper layers of another one, which alone is listed.
    """

    params: Callable[[], Any]
    reverse: bool = False
    upper: bool = False


def pick(found: Mapping[str, Found], name: str | None, option: str) -> Found:
    """The one by that name, or the only one; `option` is what a caller names it by."""
    whole = listed(found)
    if not whole:
        raise ValueError("no LSTM found.")
    names = ", ".join(map(repr, whole))
    if name is None and len(whole) > 1:
        raise ValueError(f"{len(whole)} LSTMs found. Choose one by {option}: {names}.")
    if name is not None and name not in found:
        raise ValueError(f"{option}: no LSTM {name!r}, only {names}.")
    return found[next(iter(whole)) if name is None else name]


def listed(found: Mapping[str, Found]) -> dict[str, Found]:
    """Those that are no part of another."""
    return {name: each for name, each in found.items() if not each.upper}
