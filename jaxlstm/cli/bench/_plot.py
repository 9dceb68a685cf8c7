"""The picture: at each shape, our time over that of every peer."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from jaxlstm._write import naming, replacing
from jaxlstm.cli.bench._report import head
from jaxlstm.cli.bench._results import Results
from jaxlstm.cli.bench.peers import PEERS

TITLES = {"fwd": "Forward", "train": "Training"}

STYLES = (
    ("o", "#d55e00"),
    ("s", "#0072b2"),
    ("D", "#56b4e9"),
    ("^", "#009e73"),
    ("v", "#e69f00"),
    ("P", "#cc79a7"),
    ("X", "#666666"),
)
"""Markers and Okabe and Ito's colours, which colour-blind people tell apart."""

Row = tuple[str, dict[str, float | None]]
"""What stands at the left, and the ratio to each peer."""


def formats() -> set[str]:
    """The endings that a picture's name can have."""
    return set(Figure().canvas.get_supported_filetypes())


def write_plot(path: Path, results: Results) -> None:
    """A panel for each mode: a row for each shape, and one for the geometric means."""
    modes = results.modes()
    height = 2.3 + 0.5 * len(results.shapes())
    figure = Figure(figsize=(10, height), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(modes), sharex=True, sharey=True, squeeze=False)[0]
    for mode, axes in zip(modes, panels, strict=True):
        _panel(axes, _rows(results, mode))
        axes.set_title(TITLES[mode], fontsize=12)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=11)
    figure.supxlabel(head(results), fontsize=7.5, color="0.35")
    with naming(path), replacing(path) as temporary:
        figure.savefig(temporary)


def _rows(results: Results, mode: str) -> list[Row]:
    peers, means = results.peers(mode), results.mean_ratios(mode)
    rows: list[Row] = [
        (str(shape), {peer: results.ratio(shape, mode, peer) for peer in peers}) for shape in results.shapes()
    ]
    return [*rows, ("geometric mean", {peer: means[peer] for peer in peers})]


def _panel(axes: Axes, rows: list[Row]) -> None:
    for place in range(0, len(rows), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="0.95", zorder=0)
    peers = list(rows[0][1])
    for number, peer in enumerate(peers):
        # Each at its own height in the row: equal ratios would hide each other.
        height = 0.7 * ((number + 0.5) / len(peers) - 0.5)
        dots = [(row[peer], place + height) for place, (_, row) in enumerate(rows) if row[peer] is not None]
        if dots:
            ratios, places = zip(*dots, strict=True)
            marker, colour = STYLES[(list(PEERS).index(peer) - 1) % len(STYLES)]
            axes.plot(ratios, places, linestyle="none", marker=marker, color=colour, label=PEERS[peer].title)
    axes.axvline(1, color="k", linewidth=1, zorder=1)
    axes.axhline(len(rows) - 1.5, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=11)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}" if ratio >= 1 else f"1/{1 / ratio:g}"))
    axes.set_xlabel("jaxlstm's time / theirs (left of 1: jaxlstm is faster)", fontsize=10)
    axes.grid(axis="x", color="0.85")
