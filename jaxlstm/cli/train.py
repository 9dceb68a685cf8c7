"""`jaxlstm train`: a character language model of embedding, LSTM and dense layer on the user's text."""

import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from jaxlstm.cli import _run, _text
from jaxlstm.cli._config import TrainConfig, flag, train_options
from jaxlstm.cli._windows import Windows, scored_windows


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True, help="The run's folder."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its options need not be given again.")
@train_options
@click.pass_context
def train(ctx: click.Context, files: tuple[Path, ...], out: Path, resume: bool, **options: Any) -> None:
    """Train a character language model on the text of FILEs.

    With no FILE it reads the source of Python's standard library. The last 5 % of the text are held out, and bits per
    character are given for them. Ctrl-C saves; --resume goes on as if nothing had happened.
    """
    given = {name: options[name] for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    saved = _saved(out, given) if resume else None
    if saved is None:
        _run.check_free(out)
    config = saved.config if saved else _config(options)
    files = files or tuple(map(Path, saved.files if saved else ()))

    text = _text.read_text(files)
    train_text, held_out = _text.split(text)
    record = _run.Record(
        config=config,
        files=tuple(str(path.absolute()) for path in files),
        text_sha256=_text.fingerprint(text),
        vocabulary=_text.vocabulary_of(train_text),
    )
    if saved and saved.text_sha256 != record.text_sha256:
        raise click.UsageError(
            f"{_source(files)}: not the text that the run in {out} began with (its SHA-256 was "
            f"{saved.text_sha256[:12]}..., now {record.text_sha256[:12]}...)."
        )
    train_ids = _text.encode(train_text, record.vocabulary)
    windows = Windows(train_ids, config.batch, config.window)
    held_out_ids = _text.encode(held_out, record.vocabulary)
    held_out_windows = list(scored_windows(train_ids[-1], held_out_ids, config.batch, config.window))

    if saved is None:
        _run.create(out, record)
        if resume:
            click.echo(f"Nothing had been saved in {out}: text and options are those given now.")
    click.echo(
        f"Text: {_source(files)}, {len(text):,} characters of {len(record.vocabulary)} kinds; "
        f"the last {len(held_out):,} are held out."
    )
    try:
        # Only now that the input is known to be good, for these take seconds to import.
        from jaxlstm.cli._fit import fit
        from jaxlstm.cli._report import report

        state = fit(out, record, windows, held_out_windows, resume=resume)
        report(out, record, state, train_text, held_out)
    except KeyboardInterrupt as interrupt:
        command = f"jaxlstm train --resume --out {shlex.quote(str(out))}"
        click.echo(f"Interrupted. {interrupt}\nGo on with: {command}", err=True)
        ctx.exit(130)


def _config(options: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _saved(out: Path, given: dict[str, Any]) -> _run.Record | None:
    """The run to go on with, which `given` must not contradict; None if it was killed before it could be one."""
    if _run.was_begun(out):
        return None
    saved = _run.load(out)
    for name, value in given.items():
        before = getattr(saved.config, name)
        if value != before:
            raise click.UsageError(
                f"{flag(name)} {value}: the run in {out} began with {before}, and a resumed run keeps its options. "
                "Leave it out, or begin another run with another --out."
            )
    return saved


def _source(files: Sequence[Path]) -> str:
    if not files:
        return f"Python {platform.python_version()}'s standard library"
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
