"""The process that a peer runs in: `python -m jaxlstm.cli.bench._worker`.

It reads requests from standard input, one JSON object a line, and answers each with one on standard output. Between
two requests it waits in that read, so that it takes nothing from the peer whose turn it is.
"""

import functools
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxlstm.cli.bench._runner import Runner
from jaxlstm.cli.bench._work import MODES, Shape, draw

_RUNNERS: dict[str, Runner] = {}
"""By module: where only one process can have the device, it serves several peers."""


def _device(module: str) -> dict:
    return importlib.import_module(module).device()


@functools.cache
def _warm_up(module: str, cell: str, dtype: str, platform: str, modes: tuple[str, ...]) -> None:
    """What a library does once in a process, such as late imports, is no part of any shape's compilation."""
    runner = importlib.import_module(module).runner(draw(Shape(1, 2, 1, 1), cell, dtype, platform))
    for mode in modes:
        runner.compile(mode)
        runner.run(mode)


def _build(module: str, shape: list[int], cell: str, dtype: str, platform: str, modes: Sequence[str] = MODES) -> dict:
    _warm_up(module, cell, dtype, platform, tuple(modes))
    _RUNNERS.pop(module, None)  # Its arrays go before new ones come.
    _RUNNERS[module] = importlib.import_module(module).runner(draw(Shape(*shape), cell, dtype, platform))
    return {}


def _runner(module: str) -> Runner:
    if module not in _RUNNERS:
        raise RuntimeError("the process that had this LSTM has ended")
    return _RUNNERS[module]


def _compile(module: str, mode: str) -> dict:
    return _runner(module).compile(mode)


def _numbers(module: str, mode: str, path: str) -> dict:
    numbers: dict[str, Any] = _runner(module).numbers(mode)
    np.savez(path, **numbers)
    return {}


def _round(module: str, mode: str, seconds: float, calls: int) -> dict:
    """Calls until both `seconds` and `calls` are reached."""
    run, times = _runner(module).run, []
    while sum(times) < seconds or len(times) < calls:
        begin = time.perf_counter()
        run(mode)
        times.append(time.perf_counter() - begin)
    return {"median_s": statistics.median(times), "calls": len(times)}


_REQUESTS: dict[str, Callable[..., dict]] = {
    "device": _device,
    "build": _build,
    "compile": _compile,
    "numbers": _numbers,
    "round": _round,
}


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints must not get between the answers.
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _REQUESTS[request.pop("do")](**request)
        except Exception as error:
            text = str(error).strip().splitlines()
            answer = {"error": ": ".join([type(error).__name__, *text[:1]])}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
