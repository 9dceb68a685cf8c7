"""`jaxlstm bench`: jaxlstm beside every other LSTM that is installed, on the device at hand."""

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxlstm.cli.bench._machine import split_by_presence, usable_cores
from jaxlstm.cli.bench._work import CELLS, DTYPES, MODES, SHAPES, Shape, parse_shape
from jaxlstm.cli.bench.peers import OURS, PEERS

if TYPE_CHECKING:
    from jaxlstm.cli.bench._results import Results
    from jaxlstm.cli.bench._rounds import Settings


def _shapes(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[Shape, ...]:
    try:
        return tuple(dict.fromkeys(map(parse_shape, words))) or SHAPES
    except ValueError as error:
        raise click.UsageError(f"SHAPES: {error}.") from error


def _cores(_: click.Context, __: click.Parameter, text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not hasattr(os, "sched_setaffinity"):
        raise click.UsageError("--cores: this system can't pin a process to cores. Leave it out.")
    have = usable_cores()
    try:
        cores = sorted(set(map(int, text.split(","))))
    except ValueError as error:
        raise click.UsageError(f"--cores {text}: expected core numbers with commas between, as in 0 or 0,1.") from error
    for core in cores:
        if core not in have:
            raise click.UsageError(f"--cores {text}: there is no core {core} to use; there are {have}.")
    return cores


def _peers(_: click.Context, __: click.Parameter, text: str | None) -> list[str] | None:
    if text is None:
        return None
    wanted = [OURS, *text.split(",")]
    for name in wanted:
        if name not in PEERS:
            raise click.UsageError(f"--peers: there is no peer {name!r}; there are {', '.join(PEERS)}.")
    return list(dict.fromkeys(wanted))


def _writable(_: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Before hours of work are lost for it."""
    if path is not None:
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise click.UsageError(f"--{option.name} {path}: no file can be written there.")
        if option.name == "plot":
            from jaxlstm.cli.bench._plot import formats

            if path.suffix[1:].lower() not in formats():
                known = ", ".join(sorted(formats()))
                raise click.UsageError(f"--plot {path}: its name must end in what it is, one of {known}.")
    return path


@click.command()
@click.argument("shapes", nargs=-1, metavar="[BxTxIxH[xL[xD]]]...", callback=_shapes)
@click.option("--cell", type=click.Choice(CELLS), default="lstm", show_default=True, help="What to compare.")
@click.option("--mode", type=click.Choice([*MODES, "both"]), default="both", show_default=True, help="What to time.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="Of weights and input.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=7, show_default=True, help="Rounds at each shape, alternating."
)
@click.option("--cores", metavar="LIST", callback=_cores, help="Pin to these cores, as in 0 or 0,1.  [default: all]")
@click.option(
    "--peers",
    metavar="LIST",
    callback=_peers,
    help=f"Some of {', '.join(PEERS)}, as in torch,linen; {OURS} always takes part.  [default: all that are installed]",
)
@click.option("--json", type=click.Path(path_type=Path), callback=_writable, help="Write every figure to this file.")
@click.option(
    "--plot", type=click.Path(path_type=Path), callback=_writable, help="Draw the ratios into this PNG or SVG."
)
def bench(
    shapes: tuple[Shape, ...],
    cell: str,
    mode: str,
    dtype: str,
    rounds: int,
    cores: list[int] | None,
    peers: list[str] | None,
    json: Path | None,
    plot: Path | None,
) -> None:
    """Compare jaxlstm with other libraries' LSTMs, or GRUs, on the device at hand.

    Each shape is batch x time x input x hidden [x layers [x directions]]; with none, seven from one step of a streaming
    model to two bidirectional layers are run. All libraries get the same weights and input, and are timed only if they
    give the same output and gradients. Each runs in a process of its own, as its users would write it and in its own
    layout (Keras on JAX), and only one works at a time. JAX_PLATFORMS=cpu keeps it off a GPU or TPU.

    pip install 'jaxlstm[bench]' brings all the libraries.
    """
    from rich.console import Console

    from jaxlstm.cli.bench._report import show, write_json
    from jaxlstm.cli.bench._rounds import Settings
    from jaxlstm.cli.bench._workers import PeerError

    able = [name for name, peer in PEERS.items() if cell in peer.cells]
    for name in peers or ():
        if name not in able:
            raise click.UsageError(f"--peers: {name} has no {cell.upper()} that computes the same as PyTorch's.")
    _, missing = split_by_presence(peers or ())
    if missing:
        told = (f"{name} is not installed: {how}" for name, how in missing.items())
        raise click.UsageError(f"--peers: {'; '.join(told)}")
    peers = able if peers is None else peers
    settings = Settings(shapes, cell, MODES if mode == "both" else (mode,), dtype, rounds, cores, peers)
    try:
        results = _run(settings)
    except PeerError as error:
        raise click.ClickException(f"jaxlstm itself can't run here: {error}") from error
    show(results, Console())
    if json is not None:
        write_json(json, results)
    if plot is not None:
        from jaxlstm.cli.bench._plot import write_plot

        write_plot(plot, results)


def _run(settings: "Settings") -> "Results":
    """Behind a bar on standard error."""
    from jaxlstm.cli._progress import progress
    from jaxlstm.cli._signals import in_order
    from jaxlstm.cli.bench._rounds import run

    done, total = itertools.count(), settings.num_steps()
    # Seldom drawn anew: what draws takes time from what is timed.
    with in_order(), progress(total, refresh_per_second=1) as update:
        results = run(settings, lambda what: update(next(done), what))
        update(total, "done")
    return results
