"""The command line: `jaxlstm COMMAND ...` or `python -m jaxlstm COMMAND ...`."""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

COMMANDS = {
    "train": "jaxlstm.cli.train:train",
    "sample": "jaxlstm.cli.sample:sample",
    "bench": "jaxlstm.cli.bench:bench",
    "convert": "jaxlstm.cli.convert:convert",
    "inspect": "jaxlstm.cli.convert:inspect",
}
"""Name to where its click command stands; each is imported only when it is called or listed."""


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's own signature
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        return getattr(import_module(module), attribute)


@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jaxlstm")
@click.pass_context
def _jaxlstm(ctx: click.Context) -> None:
    """PyTorch's LSTM in JAX: train a character model and sample from it, compare speeds, convert weights."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; what the user got wrong is one line on stderr and exit status 2.

    Args:
        args: the words after `jaxlstm`; None for those of the process.

    Raises:
        SystemExit: always, with the exit status.

    >>> main(["train", "--steps", "0"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    try:
        status = _jaxlstm.main(args, prog_name="jaxlstm", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"Error: {' '.join(error.format_message().split())}", err=True)
        status = error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        status = 130
    sys.exit(status)
