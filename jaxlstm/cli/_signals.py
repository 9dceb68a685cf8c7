"""Requests to end, by signal: what they do depends on what there is to put in order; under nohup they do nothing."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

_Handler = Callable[[int, Any], Any]


class Stopped(Exception):
    """A request came and all is saved; `number` is the signal's."""

    def __init__(self, number: int, words: str):
        super().__init__(words)
        self.number = number


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Ctrl-C ends the process in a line, where there is nothing to put in order.

    Not by an exception: native code that is being imported, or is starting, makes another one of it.
    """
    with _handled({signal.SIGINT: _end}):
        yield


def _end(number: int, _frame: Any) -> NoReturn:
    with contextlib.suppress(OSError):
        show_cursor = b"\x1b[?25h\n" if os.isatty(2) else b""
        os.write(2, show_cursor + b"Interrupted.\n")
    os._exit(128 + number)


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Ctrl-C, and a request to end, leave nothing half-written and nothing running behind: they are exceptions."""
    with _handled(
        {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: lambda number, _: sys.exit(128 + number)}
    ):
        yield


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """The numbers of the signals that came, for a loop to look at; after the first, the next acts as it did before."""
    numbers: list[int] = []
    requests = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def note(number: int, _frame: Any) -> None:
        numbers.append(number)
        restore()

    with _handled(dict.fromkeys(requests, note)) as restore:
        yield numbers


@contextlib.contextmanager
def _handled(handlers: dict[int, _Handler]) -> Iterator[Callable[[], None]]:
    """Have signals handled so, and again as before at the end, or when the function that this gives is called."""
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():  # Another one can't set them, and hears of none.
        before = {number: signal.getsignal(number) for number in handlers}
        previous = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in previous:
        signal.signal(number, handlers[number])
    try:
        yield restore
    finally:
        restore()
