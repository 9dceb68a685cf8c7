"""What is printed: the machine, a table for each mode and shape, a table of ratios, and what failed or is missing."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import EngFormatter
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxlstm._write import naming, replacing
from jaxlstm.cli.bench._results import BEST_JAX, STEADY, Measurement, Results
from jaxlstm.cli.bench._work import PRODUCT, Shape, product_size
from jaxlstm.cli.bench.peers import OURS, PEERS

MODE_TITLES = {
    "fwd": "Forward: output and final state",
    "train": "Training: loss and its gradients, all parameters and input",
}

NONE = "-"
UNSTEADY = "~"


def write_json(path: Path, results: Results) -> None:
    """All of it, raw and computed."""
    with naming(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(results.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")


LEGEND = f"""\
shape: BxTxIxH[xL[xD]]: batch, time steps, input size, hidden size, layers (else 1), directions (else 1)
time: median over the rounds of a round's median call; spread: their interquartile range, as a share of it
ratio: jaxlstm's time over that one's, with {UNSTEADY} before it where either of them spreads by more than {STEADY:.0%}
steps/s: time steps of the whole batch through all layers and directions, T / time
FLOP/s: 2 G T B H (I + H) for each layer and direction (G: gates, 4 of an LSTM, 3 of a GRU; I: its own input), \
three times that in training, / time
share: that rate, as a share of a plain matrix product's of the same dtype in the same rounds
compile: what tracing and compiling took, once, before the rounds; no part of time
memory: temporary memory of one call, at its peak
Keras runs on JAX, its backend here"""

SHARE_ABOVE = (
    "A share above 100 %: the plain product is JAX's own, of two {size} x {size} matrices, and no upper bound. \
Matrices of other sizes, in caches or in other kernels, may be multiplied at a higher rate; its own rounds may also \
have been disturbed."
)


def show(results: Results, console: Console) -> None:
    """Print it."""
    for text in (head(results), LEGEND):
        console.print(escape(text), highlight=False)
    for mode in results.modes():
        console.print(f"\n{MODE_TITLES[mode]}", style="bold", highlight=False)
        for shape in results.shapes():
            console.print(f"\n{escape(_shape_line(results, shape, mode))}", highlight=False)
            _print_whole(console, _shape_table(results, shape, mode))
            if any((results.share_of_product(m) or 0) > 1 for m in results.of(mode) if m.shape == shape):
                size = product_size(results.machine["platform"])
                console.print(SHARE_ABOVE.format(size=size), highlight=False)
        console.print(f"\n{mode}: jaxlstm's time over that of each peer; below 1 jaxlstm is faster", highlight=False)
        _print_whole(console, _ratio_table(results, mode))
    for line in _complaints(results):
        console.print(escape(line), highlight=False)


def _print_whole(console: Console, table: Table) -> None:
    """However narrow the console: a folded table can't be read."""
    wide = Console(width=10_000, file=io.StringIO(), color_system=None)
    with wide.capture() as capture:
        wide.print(table)
    console.out(capture.get().strip(), highlight=False)


def head(results: Results) -> str:
    """Machine, device, cores and versions, in two lines."""
    machine = results.machine
    cores = ", ".join(map(str, machine["cores"])) if machine["pinned"] else f"all {len(machine['cores'])}"
    device = "" if machine["platform"] == "cpu" else f"; {machine['platform']}: {machine['device']}"
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"{machine['cpu']}, cores: {cores}{device}; {results.settings['dtype']}, "
        f"rounds: {results.settings['rounds']}; Python {machine['python']} on {machine['system']}; "
        f"allocator, the same for all: {machine['allocator']}\n{versions}"
    )


def _shape_line(results: Results, shape: Shape, mode: str) -> str:
    sizes = ", ".join(f"{letter} {size}" for letter, size in zip("BTIHLD", shape, strict=True))
    product = results.find(shape, PRODUCT, OURS)
    rate = None if product is None else product.flops_per_s
    return f"{mode} {shape} ({sizes}); matrix product {_number(rate, 'FLOP/s')}"


def _table(*headers: str) -> Table:
    table = Table(box=box.MARKDOWN, header_style="", padding=0)  # So that eight peers fit into 80 columns.
    table.add_column(headers[0])
    for header in headers[1:]:
        table.add_column(header, justify="right")
    return table


def _shape_table(results: Results, shape: Shape, mode: str) -> Table:
    table = _table("", "time", "spread", "ratio", "steps/s", "FLOP/s", "share", "compile", "memory")
    for name in (OURS, *results.peers(mode)):
        found = results.find(shape, mode, name)
        if found is not None:
            table.add_row(PEERS[name].title, *_cells(results, found))
    return table


def _cells(results: Results, m: Measurement) -> Sequence[str]:
    if m.failure is not None or m.median_s is None:
        return ["failed"]
    return (
        _number(m.median_s, "s"),
        NONE if m.spread is None else f"{m.spread:.0%}",
        _ratio(results, m.shape, m.mode, m.peer),
        _number(m.steps_per_s),
        _number(m.flops_per_s),
        NONE if (share := results.share_of_product(m)) is None else f"{share:.1%}",
        _number(m.compile_s, "s"),
        _number(m.temp_bytes, "B"),
    )


def _ratio_table(results: Results, mode: str) -> Table:
    peers = results.peers(mode)
    table = _table("shape", *(PEERS[peer].title.replace(" ", "\n") for peer in peers), BEST_JAX.replace(" ", "\n", 1))
    for shape in results.shapes():
        ratios = [_ratio(results, shape, mode, peer) for peer in (*peers, results.best_jax(shape, mode))]
        table.add_row(str(shape), *ratios)
    table.add_row("geometric mean", *map(_two_digits, results.mean_ratios(mode).values()))
    return table


def _complaints(results: Results) -> list[str]:
    failed = [
        f"Failed: {PEERS[m.peer].title}, {m.mode} {m.shape}: {m.failure}" for m in results.measurements if m.failure
    ]
    missing = [f"Not installed: {PEERS[peer].title}. {how}" for peer, how in results.missing.items()]
    everything = ["All of them: pip install 'jaxlstm[bench]'"] if len(missing) > 1 else []
    return failed + missing + everything


def _ratio(results: Results, shape: Shape, mode: str, peer: str | None) -> str:
    if peer is None:
        return NONE
    mark = UNSTEADY if results.is_unsteady(shape, mode, peer) else ""
    return mark + _two_digits(results.ratio(shape, mode, peer))


def _two_digits(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _number(value: float | None, unit: str = "") -> str:
    """Three digits with an SI prefix."""
    return NONE if value is None else EngFormatter(unit)(float(f"{value:.3g}")).rstrip()
