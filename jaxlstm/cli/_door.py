"""The one door of the command line: the table of commands, and how each of them ends, in a line and an exit status."""

import errno
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from jaxlstm.cli import _streams


class _Entry(NamedTuple):
    """Where a command stands, and what it does."""

    where: str
    help: str


COMMANDS = {
    "train": _Entry("jaxlstm.cli.train:train", "Train a character language model on the text of files."),
    "sample": _Entry("jaxlstm.cli.sample:sample", "Write text with a trained model."),
    "bench": _Entry("jaxlstm.cli.bench:bench", "Compare jaxlstm with other libraries on the device at hand."),
    "convert": _Entry("jaxlstm.cli.convert:convert", "Convert LSTMs, GRUs and RNNs from one file format to another."),
    "inspect": _Entry("jaxlstm.cli.convert:inspect", "List the LSTMs, GRUs and RNNs in a file, or in a run of train."),
}
"""By name; each is imported only when it is called."""


def command_of(name: str) -> click.Command:
    """The click command by that name, imported."""
    module, attribute = COMMANDS[name].where.split(":")
    return getattr(import_module(module), attribute)


_UNWRITABLE = {errno.EBADF, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPIPE}


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's own signature
        return command_of(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jaxlstm")
@click.pass_context
def _jaxlstm(ctx: click.Context) -> None:
    """PyTorch's LSTM in JAX: train a character model and sample from it, compare speeds, convert weights."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(args: Sequence[str] | None) -> int:
    """Run a command, and say in a line what went wrong: the exit status."""
    try:
        _streams.prepare()
        return _invoke(sys.argv[1:] if args is None else list(args))
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except click.Abort:
        raise KeyboardInterrupt from None
    except MemoryError:
        return _fail("Not enough memory.")
    except OSError as error:
        return _fail(f"{_place(error)}{error.strerror or error}.")
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # XLA's word for it.
            raise
        return _fail(f"Not enough memory: {error}")


def _invoke(args: list[str]) -> int:
    try:
        with _jaxlstm.make_context("jaxlstm", args) as context:
            _jaxlstm.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _place(error: OSError) -> str:
    """What the error is of, before a colon: a file has a name, and of what has none only standard output is written."""
    if error.filename is not None:
        return f"{error.filename}: "
    if error.errno not in _UNWRITABLE:
        return ""
    if sys.stdout is not None:
        _streams.give_up(sys.stdout)
    return "standard output: "


def _fail(words: str, status: int = 1) -> int:
    _streams.say(f"Error: {' '.join(words.split())}")
    return status
