"""The command line: `jaxlstm COMMAND ...` or `python -m jaxlstm COMMAND ...`; and `load_run`, what it trained.

It needs the packages of `jaxlstm[cli]`, and of `jaxlstm[bench]` for what `jaxlstm bench` compares.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxlstm.cli import _signals, _streams

if TYPE_CHECKING:
    from jaxlstm.cli._load import Run as Run
    from jaxlstm.cli._load import load_run as load_run

__all__ = ["Run", "load_run", "main"]

_NEEDED = ("click", "matplotlib", "rich")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; what goes wrong is one line on stderr.

    Args:
        args: the words after `jaxlstm`; None for those of the process.

    Raises:
        SystemExit: always, with the exit status: 2 for what the user got wrong, 1 for what the machine did, 128 and the
            signal's number where one ended it.

    >>> main(["train", "--steps", "0"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    with _signals.at_once():
        try:
            from jaxlstm.cli import _door

            status = _door.run(args)
        except KeyboardInterrupt:
            _streams.say("Interrupted.")
            status = 130
        except ModuleNotFoundError as error:
            name = str(error.name).partition(".")[0]
            if name not in _NEEDED:
                raise
            _streams.say(f"Error: the command line needs {name}: pip install 'jaxlstm[cli]'")
            status = 1
    sys.exit(status)


def __getattr__(name: str) -> Any:
    """What takes seconds to import comes when it is asked for."""
    if name in ("Run", "load_run"):
        return getattr(importlib.import_module("jaxlstm.cli._load"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
