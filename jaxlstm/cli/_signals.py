"""Requests to end, noted for the training loop, which ends where nothing is lost."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

_REQUESTS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(Exception):
    """A request came and all is saved; `number` is the signal's."""

    def __init__(self, number: int, words: str):
        super().__init__(words)
        self.number = number


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """The numbers of the signals that came; after the first one, the next acts as it did before.

    One that is ignored, as SIGHUP is under nohup, stays so.
    """
    numbers: list[int] = []

    def note(number: int, _frame: Any) -> None:
        numbers.append(number)
        restore()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    handlers = {number: signal.getsignal(number) for number in _REQUESTS}
    previous = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, note)
    try:
        yield numbers
    finally:
        restore()
