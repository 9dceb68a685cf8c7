"""The picture of a run's loss."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxlstm._write import naming, replacing
from jaxlstm.cli._compressors import Yardstick

LINES = {"gzip": "-", "bzip2": "--", "xz": ":"}
"""How each yardstick is drawn."""


def plot_loss(path: Path, lines: list[dict[str, Any]], compressed: dict[str, Yardstick]) -> None:
    """Write a PNG of training and held-out bits per character over the characters read, with the yardsticks.

    Raises:
        OSError: it can't be written.
    """
    with naming(path), replacing(path) as temporary:
        draw(lines, compressed).savefig(temporary, format="png")


def draw(lines: list[dict[str, Any]], compressed: dict[str, Yardstick]) -> Figure:
    """The picture of these lines of metrics."""
    held_out = "held_out_bits_per_character"
    characters = np.array([line["characters"] for line in lines])
    bits = np.array([line["bits_per_character"] for line in lines])
    scored = [(line["characters"], line[held_out]) for line in lines if held_out in line]

    figure = Figure(figsize=(8, 5), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    axes.plot(characters, bits, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(characters, _smooth(bits), color="tab:blue", label="training, smoothed")
    axes.plot(*zip(*scored, strict=True), "o-", color="tab:red", label=f"held out, {scored[-1][1]:.2f} at the end")
    # As in the table: first what has read the training text, as the LSTM has.
    for way, colour in (("after", "0.2"), ("alone", "0.65")):
        of = "held-out text behind the training text" if way == "after" else "held-out text alone"
        for name, bits_of in compressed.items():
            value = getattr(bits_of, way)
            axes.axhline(value, color=colour, linestyle=LINES[name], linewidth=1, label=f"{name}, {of}, {value:.2f}")
    axes.set_xlabel("characters read")
    axes.set_ylabel("bits per character")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0)
    axes.set_ylim(0, min(bits.max(), 8) * 1.05)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _smooth(values: np.ndarray) -> np.ndarray:
    """Each value's mean with those around it, over a fortieth of the run."""
    half = len(values) // 80
    return np.array([values[max(0, k - half) : k + half + 1].mean() for k in range(len(values))])
