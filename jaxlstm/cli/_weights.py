"""What `jaxlstm convert` and `jaxlstm inspect` do: weights from one format to another, and what a file holds."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxlstm._types import CellParams, LSTMParams
from jaxlstm.cli._isolated import isolated
from jaxlstm.cli._signals import in_order
from jaxlstm.interop import _files
from jaxlstm.interop._cells import cell_of_params, check, kind_of, printable, reading, stacked
from jaxlstm.interop._found import Found, listed, pick

_REVERSE = "runs over time in reverse only, which no parameter tells: flip x in time"

_REST_OF_RUN = "the embedding, the output layer and the vocabulary stay in the run"


class _Chosen(NamedTuple):
    """What a file holds by the names asked for: parameters of numpy's arrays, or else what there is to choose from."""

    params: LSTMParams | CellParams | None
    reverse: bool = False
    prefix: str = ""
    rows: Iterable[list[str]] = ()
    refusal: str = ""


def convert(source: Path, target: Path, prefix: str | None, nodes: tuple[str, ...]) -> str:
    """Do it, and say in words what was written.

    Raises:
        click.UsageError: it can't be done.
    """
    with _in_one_line():
        written = _files.format_of(target)
        if not target.parent.is_dir():
            raise ValueError(f"{target}: there is no folder {target.parent}. Make it first.")
        run, (source, within) = source, _of_run(source)
        option = _files.format_of(source).chosen_by
        if nodes if option == "prefix" else prefix is not None:
            raise ValueError(f"{source}: its LSTM is chosen by --{option}.")
        names = nodes or (within if prefix is None else prefix,)
        with in_order():
            chosen: _Chosen = isolated(_choose, source, names, f"--{option}")
    if chosen.params is None:
        show(chosen.rows)
        raise click.UsageError(printable(chosen.refusal))
    with _in_one_line(), in_order():
        _files.save(chosen.params, target)
    kind, layers, directions, sizes, dtype = _columns(chosen.params)
    written_as = f"{kind}, layers {layers}, directions {directions}, sizes {sizes}, {written.dtype or dtype}"
    rest = f"whatever else {run} holds is not in it" if within is None else _REST_OF_RUN
    lines = [f"{target}: {written_as}.", f"Only the {kind} is converted: {rest}."]
    if chosen.prefix and option == written.chosen_by == "prefix":
        lines.append(f"Its names are without the prefix {chosen.prefix!r}.")
    if chosen.reverse:
        lines.append(f"It {_REVERSE}.")
    return "\n".join(map(printable, lines))


def inspect(path: Path) -> list[list[str]]:
    """The rows of the table of a file's LSTMs.

    Raises:
        click.UsageError: it can't be read, or holds none.
    """
    with _in_one_line():
        path, within = _of_run(path)
        with in_order():
            rows = isolated(_list, path, within)
        if not rows:
            raise ValueError(f"{path}: no LSTM found, nor a GRU or RNN.")
    return rows


def _of_run(path: Path) -> tuple[Path, str | None]:
    """A run's newest checkpoint and its LSTM's name there; any other path as it is.

    Raises:
        ValueError, OSError: no file of a known ending, which is told before what reads it is imported.
    """
    if not path.is_dir():
        _files.format_of(path)
        path.stat()
        return path, None
    from jaxlstm.cli._load import LSTM_NAME, newest

    return newest(path).path, LSTM_NAME


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
    name = next((name for name, each in found.items() if each is chosen[0]), "")  # None of a stack of several.
    return _Chosen(params, any(each.reverse for each in chosen), f"{name}." if name else "")


def _list(path: Path, within: str | None) -> list[list[str]]:
    found = _files.find(path)
    return _rows(found if within is None else {within: found[within]})


def _rows(found: Mapping[str, Found]) -> list[list[str]]:
    """What there is to say of everything in a file, or why it can't be had."""
    rows = []
    for name, each in listed(found).items():
        notes = [_REVERSE if each.reverse else "", f"below {each.above!r}" if each.above else "", each.note]
        try:
            columns = _columns(each.params())
        except ValueError as error:
            columns, notes = [each.kind, *[""] * 4], [str(error)]
        rows.append([name or '""', *columns, "; ".join(filter(None, notes))])
    return rows


@contextmanager
def _in_one_line() -> Iterator[None]:
    """What is wrong with a file is one line on stderr."""
    try:
        yield
    except OSError as error:
        words = str(error) if error.filename is None else f"{os.fspath(error.filename)}: {error.strerror}."
        raise click.UsageError(printable(words)) from error
    except (ValueError, TypeError, ImportError) as error:
        raise click.UsageError(printable(error)) from error


def _columns(params: LSTMParams | CellParams) -> list[str]:
    """What there is to say of an LSTM, GRU or RNN: which it is, layers, directions, sizes, dtype."""
    cell = params if isinstance(params, CellParams) else params[0][0]
    sizes = check(params)
    projected = f", projected to {sizes.output_size}" if cell.weight_hr is not None else ""
    bias = "" if cell.bias_ih is not None else ", no bias"
    return [
        kind_of(cell_of_params(params)),
        str(sizes.num_layers),
        str(sizes.num_directions),
        f"{sizes.input_size} to {sizes.hidden_size}{projected}{bias}",
        str(cell.weight_ih.dtype),
    ]


def show(rows: Iterable[list[str]]) -> None:
    """Print the table."""
    table = Table("name", "cell", "layers", "directions", "sizes", "dtype", "note", box=SIMPLE)
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    # However wide: a name that is cut short can't be copied.
    Console(width=10_000).print(table)
