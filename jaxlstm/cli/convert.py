"""`jaxlstm convert` and `jaxlstm inspect`: LSTM weights from one file format to another, and what a file holds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import jax
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxlstm._check import check_cell_params, check_params
from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.interop import _files
from jaxlstm.interop._cells import reading, stacked
from jaxlstm.interop._found import Found, listed, pick

_REVERSE = "runs over time in reverse only, which no parameter tells: flip x in time"


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--prefix", help="Which LSTM of a .pt, .pth, .safetensors or .npz: the prefix of its names.")
@click.option(
    "--node",
    multiple=True,
    help="Which LSTM of a .onnx, .h5 or .keras: the name of its node or layer. Given again, it stacks a layer on top.",
)
def convert(source: Path, target: Path, prefix: str | None, node: tuple[str, ...]) -> None:
    """Convert the LSTM in IN to the format that OUT's ending names.

    Endings are .pt, .pth, .safetensors and .npz (arrays under PyTorch's names), .onnx, .h5 and .keras. Where IN holds
    several LSTMs, they are listed, and --prefix or --node chooses.

    Values stay as they are, but for this: .onnx, .h5 and .keras are written in float32; .h5 and .keras have one bias,
    the sum of the two. OUT appears whole or not at all, and replaces a file that was there. No code in IN is run.
    """
    with _in_one_line():
        _files.format_of(target)
        option = _files.format_of(source).chosen_by
        if node if option == "prefix" else prefix is not None:
            raise ValueError(f"{source}: its LSTM is chosen by --{option}.")
        found = _files.find(source)
        names = node or [prefix]
        if names == [None] and len(listed(found)) > 1:
            _print_table(found)
        with reading(str(source)):
            chosen = [pick(found, name, f"--{option}") for name in names]
        parts = [each.params() for each in chosen]
        params = parts[0] if len(parts) == 1 else stacked(layer for part in parts for layer in part)
        _files.save(params, target)
    layers, directions, sizes, dtype = _columns(params)
    click.echo(f"{target}: layers {layers}, directions {directions}, sizes {sizes}, {dtype}.")
    if any(each.reverse for each in chosen):
        click.echo(f"It {_REVERSE}.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """List the LSTMs in FILE: their names, layers, directions and sizes.

    FILE ends in .pt, .pth, .safetensors, .npz, .onnx, .h5 or .keras. No code in it is run.
    """
    with _in_one_line():
        found = _files.find(file)
        if not found:
            raise ValueError(f"{file}: no LSTM found.")
        _print_table(found)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Float64 stays float64; what is wrong with a file is one line on stderr."""
    try:
        with jax.enable_x64(True):
            yield
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise click.UsageError(str(error)) from error


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


def _print_table(found: Mapping[str, Found]) -> None:
    """Every LSTM of a file, or why one can't be had."""
    table = Table("name", "layers", "directions", "sizes", "dtype", "note", box=SIMPLE)
    for name, each in listed(found).items():
        try:
            columns, note = _columns(each.params()), _REVERSE if each.reverse else ""
        except ValueError as error:
            columns, note = [""] * 4, str(error)
        table.add_row(*map(escape, (name or '""', *columns, note)))
    # However wide: a name that is cut short can't be copied.
    Console(width=10_000).print(table)
