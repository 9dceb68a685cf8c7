"""Standard streams that may be closed, full or gone, with their terminal or with who read them."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO


def prepare() -> None:
    """Before anything is written or opened.

    Raises:
        OSError: standard output is closed.
    """
    # A file that is opened later must not become number 1 or 2, which native code writes to.
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Names need not be UTF-8, nor a terminal.
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO) -> None:
    """Nothing more can be written to it, and what it still holds must not fail again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class Screen:
    """Standard error as long as it can be written to: a terminal that is closed does not end what trains."""

    def __init__(self) -> None:
        self._stream = sys.stderr  # None where it is closed.

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or give up for good."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or give up for good."""
        self._try(lambda stream: stream.flush())

    def _try(self, act: Callable[[TextIO], object]) -> None:
        if self._stream is not None:
            try:
                act(self._stream)
            except OSError:
                give_up(self._stream)


def say(words: str) -> None:
    """A line on standard error, if there is anybody to read it."""
    screen = Screen()
    screen.write(f"{words}\n")
    screen.flush()
