"""Which implementation a call would run on each platform, and why not the others."""

import functools
from typing import Any, NamedTuple

import jax

from jaxlstm._call import checked, run
from jaxlstm._types import Cell, LSTMParams
from jaxlstm.cells import LSTM
from jaxlstm.implementations import _choice, xla
from jaxlstm.implementations._protocol import call_of


class Explanation(NamedTuple):
    """What runs on one platform.

    Attributes:
        implementation: the name of what `implementation=None` runs there.
        reasons: for each other implementation, why it doesn't.
    """

    implementation: str
    reasons: dict[str, str]


class Explanations(dict[str, Explanation]):
    """An `Explanation` for each platform; prints as a table."""

    def __repr__(self) -> str:
        rows = [("platform", "None runs", "not", "because")]
        for platform, (implementation, reasons) in self.items():
            first = (platform, implementation)
            rows += [(*(first if k == 0 else ("", "")), name, why) for k, (name, why) in enumerate(reasons.items())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


def explain(
    params: LSTMParams,
    x: jax.typing.ArrayLike,
    state: Any = None,
    *,
    cell: Cell = LSTM,
    implementation: str | None = None,
    **options: Any,
) -> Explanations:
    """Which implementation `jaxlstm.lstm` would run on CPU, TPU and NVIDIA GPU for such a call, and why not the others.

    Nothing is computed. What is known only once the program is made is left out: whether it is exported, and how XLA
    shares it out over devices.

    Args:
        params: as in `jaxlstm.lstm`, and so is all else.
        x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]`.
        state: initial `(h, c)`, or None.
        cell: of another one, `jaxlstm.cells.GRU` say, what `jaxlstm.fold` would run.
        implementation: checked, but what is explained is what None would run.
        **options: `lengths`, `resets`, ...

    Returns:
        A dict from "cpu", "tpu" and "cuda" to `Explanation(implementation, reasons)`, which prints as a table.

    Raises:
        ValueError, TypeError: as `jaxlstm.lstm` does.

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> explained = jaxlstm.explain(params, jnp.ones((7, 2, 3)), checkpoint_every=2)
    >>> explained["tpu"].implementation
    'xla'
    """
    _choice.by_name(implementation)
    arrays, settings = checked(cell, params, x, state, **options)
    passed_over: dict[str, str] = {}

    def look(*args, reverse, **kwargs):
        """A layer that only looks whether kernels could run it; one kernel must serve all layers."""
        for name, reason in _choice.passed_over(call_of(*args, **kwargs)).items():
            passed_over.setdefault(name, reason)
        return xla.layer(*args, reverse=reverse, **kwargs)

    jax.eval_shape(functools.partial(run, look, settings=settings), arrays)
    best = {platform: entry.name for platform, entry in _choice.best(passed_over).items()}
    return Explanations(
        {platform: _on(platform, best.get(platform, "xla"), passed_over) for platform in _choice.PLATFORMS}
    )


def _on(platform: str, chosen: str, passed_over: dict[str, str]) -> Explanation:
    reasons = {}
    for entry in _choice.KERNELS:
        if entry.platform != platform:
            reasons[entry.name] = f"it runs on {entry.platform} only"
        elif entry.name != chosen:
            reasons[entry.name] = passed_over.get(entry.name, f'"{chosen}" comes first')
    if chosen != "xla":
        reasons["xla"] = f'"{chosen}" comes first'
    return Explanation(chosen, reasons)
