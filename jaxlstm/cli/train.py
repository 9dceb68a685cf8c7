"""`jaxlstm train`: a character language model of embedding, LSTM and dense layer on the user's text."""

import shlex
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from jaxlstm.cli import _devices, _processes, _run
from jaxlstm.cli._config import TrainConfig, flag, train_options
from jaxlstm.cli._job import Job, make_job, source


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True, help="The run's folder."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its options need not be given again.")
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    help="Devices, of each process, that share the batch. On CPU each is a thread.  [default: all; one on CPU]",
)
@click.option("--coordinator", metavar="HOST:PORT", help="Where the first of many processes can be reached.")
@click.option("--num-processes", type=click.IntRange(min=1), help="How many processes share the batch.")
@click.option("--process-id", type=click.IntRange(min=0), help="Which one this is, from 0.")
@train_options
@click.pass_context
def train(
    ctx: click.Context,
    files: tuple[Path, ...],
    out: Path,
    resume: bool,
    devices: int | None,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    **options: Any,
) -> None:
    """Train a character language model on the text of FILEs.

    With no FILE it reads the source of Python's standard library. The last 5 % of the text are held out, and bits per
    character are given for them. Ctrl-C saves; --resume goes on as if nothing had happened, on any number of devices.

    On many hosts, or in many processes of one, start the same command in each with --coordinator, --num-processes and
    its own --process-id; --out is a folder that all of them see.
    """
    members = _processes.processes(coordinator, num_processes, process_id)
    given = {name: options[name] for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    saved = _saved(out, given) if resume else None
    if saved is None:
        _run.check_free(out)
    job = _job(out, saved, files, options)

    leads = members is None or members.id == 0
    _devices.ask_for(devices)
    try:
        with _processes.joined(members, told=(job.record.config, job.record.text_sha256, devices)):
            mesh = _devices.make_mesh(devices, job.record.config.batch)
            if leads:
                if saved is None:
                    _run.create(out, job.record)
                    if resume:
                        click.echo(f"Nothing had been saved in {out}: text and options are those given now.")
                click.echo(job)
            # Only now that the input is known to be good, for these take seconds to import.
            from jaxlstm.cli._fit import fit
            from jaxlstm.cli._report import report

            state = fit(out, job, mesh, resume=resume)
        if leads:
            report(out, job, state)
    except KeyboardInterrupt as interrupt:
        if leads:
            command = f"jaxlstm train --resume --out {shlex.quote(str(out))}"
            click.echo(f"Interrupted. {interrupt}\nGo on with: {command}", err=True)
        ctx.exit(130)


def _job(out: Path, saved: _run.Record | None, files: tuple[Path, ...], options: dict[str, Any]) -> Job:
    """What `saved` says, where there is such a run in `out`, or else what the user does."""
    if saved is None:
        try:
            config = TrainConfig(**options)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        return make_job(config, files)
    files = files or tuple(map(Path, saved.files))
    job = make_job(saved.config, files)
    if saved.text_sha256 != job.record.text_sha256:
        raise click.UsageError(
            f"{source(files)}: not the text that the run in {out} began with (its SHA-256 was "
            f"{saved.text_sha256[:12]}..., now {job.record.text_sha256[:12]}...)."
        )
    return job


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
