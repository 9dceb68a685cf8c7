"""`jaxlstm train`: a character language model of embedding, LSTM and dense layer on the user's text."""

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from jaxlstm.cli._config import DEFAULT_OUT, TrainConfig, flag, train_options

if TYPE_CHECKING:
    from jaxlstm.cli._job import Job
    from jaxlstm.cli._run import Record


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--out", type=click.Path(path_type=Path), default=DEFAULT_OUT, show_default=True, help="The run's folder."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out, to more --steps if they are given.")
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
    With --resume and more --steps, the learning rate from there on is that of a run of so many steps.

    On many hosts, or in many processes of one, start the same command in each with --coordinator, --num-processes and
    its own --process-id; --out is a folder that all of them see.
    """
    if not resume:
        _config(options)
    # Imports take seconds: each waits until what comes before it is known to be good.
    from jaxlstm.cli import _devices, _lock, _processes
    from jaxlstm.cli._signals import Stopped
    from jaxlstm.cli._streams import say

    members = _processes.processes(coordinator, num_processes, process_id)
    given = {name: options[name] for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    saved = _begun(out, resume, given)
    config = _config(options) if saved is None else _config(dataclasses.asdict(saved.config) | given)
    job = _job(out, saved, files, config)

    leads = members is None or members.id == 0
    _devices.ask_for(devices)
    try:
        with _processes.joined(members, settings=(config, job.record.text_sha256, devices)):
            mesh = _devices.make_mesh(devices, config.batch)
            from jaxlstm.cli._fit import fit
            from jaxlstm.cli._model import check_memory
            from jaxlstm.cli._report import report

            check_memory(job.record, mesh)
            with _lock.held(out) if leads else contextlib.nullcontext():
                if leads:
                    if _begun(out, resume, given) != saved:
                        raise click.UsageError(f"--out {out}: another process has trained in it meanwhile. Look again.")
                    _begin(out, saved, job, resume=resume)
                state = fit(out, job, mesh, resume=resume)
                try:
                    if leads:
                        report(out, job, state)
                finally:
                    # A while after they part, XLA's threads may abort a process for it.
                    _processes.meet()
    except Stopped as stopped:
        if leads:
            say(f"Interrupted. {stopped}\nGo on with: jaxlstm train --resume --out {shlex.quote(str(out))}")
        ctx.exit(128 + stopped.number)


def _begun(out: Path, resume: bool, given: dict[str, Any]) -> "Record | None":
    """The run in `out` to go on with, which `given` must not contradict; None if one is to begin, and it is free."""
    from jaxlstm.cli import _run

    if not resume:
        _run.check_free(out)
    if not resume or _run.was_begun(out):
        return None
    saved = _run.load(out)
    for name, value in given.items():
        before = getattr(saved.config, name)
        if name == "steps" and value < before:
            raise click.UsageError(f"--steps {value}: the run in {out} has {before}, and it can only go on to more.")
        if name != "steps" and value != before:
            raise click.UsageError(
                f"{flag(name)} {value}: the run in {out} began with {before}, and a resumed run keeps its options. "
                "Leave it out, or begin another run with another --out."
            )
    return saved


def _config(options: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig(**options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _job(out: Path, saved: "Record | None", files: tuple[Path, ...], config: TrainConfig) -> "Job":
    """Of the text that the user names, or else of that of `saved`, the run in `out`, which it must be."""
    from jaxlstm.cli._job import make_job, source

    if saved is None:
        return make_job(config, files)
    mend = "Leave out the FILEs" if files else "Restore it"
    remedy = f"{mend}, or begin another run with another --out."
    try:
        job = make_job(config, files or tuple(map(Path, saved.files)))
    except click.UsageError as error:
        raise click.UsageError(
            error.message if files else f"{error.message} The run in {out} reads it. {remedy}"
        ) from error
    if saved.text_sha256 != job.record.text_sha256:
        raise click.UsageError(
            f"{source(files or saved.files)}: not the text that the run in {out} began with (its SHA-256 was "
            f"{saved.text_sha256[:12]}..., now {job.record.text_sha256[:12]}...). {remedy}"
        )
    return job


def _begin(out: Path, saved: "Record | None", job: "Job", *, resume: bool) -> None:
    """Make the folder the run that it is to be, and say what it is."""
    import numpy as np

    from jaxlstm.cli import _run
    from jaxlstm.cli._model import learning_rate

    config = job.record.config
    _run.tidy(out)
    if saved is None or saved.config != config:
        _run.write(out, job.record)
    if saved is None and resume:
        click.echo(f"Nothing had been saved in {out}: text and options are those given now.")
    click.echo(job)
    if saved is not None and saved.config != config:
        before, now = (float(np.asarray(learning_rate(each)(saved.config.steps))) for each in (saved.config, config))
        click.echo(
            f"{config.steps} steps in place of {saved.config.steps}: from here on the learning rate is that of a run "
            f"of {config.steps} steps: at step {saved.config.steps} it is {now:.2g}, where it was to be {before:.2g}.\n"
            f"The losses will not be those of a run that was begun with --steps {config.steps}."
        )
