"""`jaxlstm convert` and `jaxlstm inspect`: LSTM weights from one file format to another, and what a file holds."""

import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxlstm._check_cell import check_cell_params, check_params
from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.cli._isolated import isolated
from jaxlstm.interop import _files
from jaxlstm.interop._cells import printable, reading, stacked
from jaxlstm.interop._found import Found, listed, pick

_REVERSE = "runs over time in reverse only, which no parameter tells: flip x in time"


class _Chosen(NamedTuple):
    """What a file holds by the names asked for: parameters of numpy's arrays, or else what there is to choose from."""

    params: LSTMParams | LSTMCellParams | None
    reverse: bool = False
    rows: Iterable[list[str]] = ()
    refusal: str = ""


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--prefix", help="Which LSTM of a PyTorch checkpoint, .safetensors or .npz: the prefix of its names.")
@click.option(
    "--node",
    multiple=True,
    help="Which LSTM of a .onnx, .h5 or .keras: the name of its node or layer. Given again, it stacks a layer on top.",
)
def convert(source: Path, target: Path, prefix: str | None, node: tuple[str, ...]) -> None:
    """Convert the LSTM in IN to the format that OUT's ending names.

    Endings are .pt, .pth, .pth.tar, .ckpt, .bin, .safetensors and .npz (arrays under PyTorch's names), .onnx, .h5,
    .hdf5 and .keras. Where IN holds several LSTMs that are not one stack, they are listed, and --prefix or --node
    chooses.

    Values stay as they are, but for this: .onnx, .h5 and .keras are written in float32; .h5 and .keras have one bias,
    the sum of the two. OUT appears whole or not at all, and replaces a file that was there. No code in IN is run, and
    it is read in a process of its own, within limits of time and memory.
    """
    with _in_one_line():
        written = _files.format_of(target)
        option = _files.format_of(source).chosen_by
        if node if option == "prefix" else prefix is not None:
            raise ValueError(f"{source}: its LSTM is chosen by --{option}.")
        chosen: _Chosen = isolated(_choose, source, node or (prefix,), f"--{option}")
        if chosen.params is None:
            _print_table(chosen.rows)
            raise ValueError(chosen.refusal)
        with _ending_in_order():
            _files.save(chosen.params, target)
    layers, directions, sizes, dtype = _columns(chosen.params)
    click.echo(
        printable(f"{target}: layers {layers}, directions {directions}, sizes {sizes}, {written.dtype or dtype}.")
    )
    if chosen.reverse:
        click.echo(f"It {_REVERSE}.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """List the LSTMs in FILE: their names, layers, directions and sizes.

    FILE ends in .pt, .pth, .pth.tar, .ckpt, .bin, .safetensors, .npz, .onnx, .h5, .hdf5 or .keras. No code in it is
    run, and it is read in a process of its own, within limits of time and memory.
    """
    with _in_one_line():
        _files.format_of(file)
        rows = isolated(_list, file)
        if not rows:
            raise ValueError(f"{file}: no LSTM found.")
        _print_table(rows)


def _choose(path: Path, names: Iterable[str | None], option: str) -> _Chosen:
    found = _files.find(path)
    try:
        with reading(str(path)):
            chosen = [pick(found, name, option) for name in names]
    except ValueError as error:
        if tuple(names) != (None,) or len(listed(found)) < 2:
            raise
        return _Chosen(None, rows=_rows(found), refusal=str(error))
    parts = [each.params() for each in chosen]
    with reading(str(path)):
        params = parts[0] if len(parts) == 1 else stacked(layer for part in parts for layer in part)
    return _Chosen(params, any(each.reverse for each in chosen))


def _list(path: Path) -> list[list[str]]:
    return _rows(_files.find(path))


def _rows(found: Mapping[str, Found]) -> list[list[str]]:
    """What there is to say of every LSTM of a file, or why it can't be had."""
    rows = []
    for name, each in listed(found).items():
        notes = [_REVERSE if each.reverse else "", f"below {each.above!r}" if each.above else "", each.note]
        try:
            columns = _columns(each.params())
        except ValueError as error:
            columns, notes = [""] * 4, [str(error)]
        rows.append([name or '""', *columns, "; ".join(filter(None, notes))])
    return rows


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What is wrong with a file is one line on stderr."""
    try:
        yield
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise click.UsageError(printable(error)) from error


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """A request to end leaves nothing half-written behind, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _columns(params: LSTMParams | LSTMCellParams) -> list[str]:
    """What there is to say of an LSTM: layers, directions, sizes, dtype."""
    cell = params if isinstance(params, LSTMCellParams) else params[0][0]
    sizes = check_cell_params(params) if isinstance(params, LSTMCellParams) else check_params(params)
    projected = f", projected to {sizes.output_size}" if cell.weight_hr is not None else ""
    bias = "" if cell.bias_ih is not None else ", no bias"
    return [
        str(sizes.num_layers),
        str(sizes.num_directions),
        f"{sizes.input_size} to {sizes.hidden_size}{projected}{bias}",
        str(cell.weight_ih.dtype),
    ]


def _print_table(rows: Iterable[list[str]]) -> None:
    table = Table("name", "layers", "directions", "sizes", "dtype", "note", box=SIMPLE)
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    # However wide: a name that is cut short can't be copied.
    Console(width=10_000).print(table)
