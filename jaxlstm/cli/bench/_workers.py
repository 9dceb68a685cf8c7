"""The command's side of the workers: starting, asking and ending them."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxlstm.cli.bench.peers import OURS, PEERS

TIMEOUT_S = 900.0
"""What one request may take before its worker is given up: far more than any compilation or round should."""

ONE_PROCESS = ("tpu",)
"""Platforms whose device only one process can hold: there the JAX peers share theirs, and nothing of them but its
Python shares the host's threads."""


class PeerError(Exception):
    """A peer could not do what it was asked to; the text is the reason, in one line."""


@contextlib.contextmanager
def pinned(cores: Sequence[int] | None) -> Iterator[None]:
    """Start processes within this: they run on `cores` from their first instruction, so their thread pools do too."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Worker:
    """One process that runs peers."""

    def __init__(self, log: Path, cores: Sequence[int] | None, environment: dict[str, str]) -> None:
        """Start it; what it prints goes to `log`."""
        self._log = log
        with log.open("wb") as errors, pinned(cores):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jaxlstm.cli.bench._worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def alive(self) -> bool:
        """Whether it can be asked anything."""
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer; PeerError if it answers with an error, with nothing, or not in time."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(TIMEOUT_S, give_up)
        timer.start()
        try:
            line = self._exchange(json.dumps(request))
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            status = self._process.wait()
            raise PeerError(f"no answer within {TIMEOUT_S:g} s" if late.is_set() else self._last_words(status))
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _exchange(self, text: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(text, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline()

    def _last_words(self, status: int) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"its process ended with status {status}" + (f": {said[-1]}" if said else "")

    def close(self) -> None:
        """End it, whatever it does, and its pipes."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


class Workers:
    """All workers: each peer's own process, started when it is first asked and again after it ended."""

    def __init__(self, folder: Path, cores: Sequence[int] | None, dtype: str) -> None:
        """Files that workers leave go to `folder`."""
        self._folder, self._cores = folder, cores
        self._workers: dict[str, Worker] = {}
        self._environment = os.environ | {
            "JAX_ENABLE_X64": str(dtype == "float64"),
            # A compilation is timed, not a file's reading.
            "JAX_ENABLE_COMPILATION_CACHE": "False",
            # One that takes most of a GPU's memory at its start, as XLA does by default, leaves the others none.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if cores is not None:
            # PyTorch runs as many threads as its users would give it on these cores. How its threads wait between two
            # calls stays at the default: OpenMP's spin for less than the pause between rounds, then sleep.
            self._environment["OMP_NUM_THREADS"] = str(len(cores))
        self._platform: str | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def device(self) -> dict[str, str]:
        """The `platform` ("cpu", "gpu", "tpu") and the `device` that JAX computes on."""
        answer = self.ask(OURS, "device")
        self._platform = answer["platform"]
        return answer

    def ask(self, name: str, do: str, **request: Any) -> dict[str, Any]:
        """What the peer `name` answers to `do`; PeerError if it fails."""
        peer = PEERS[name]
        process = OURS if peer.is_jax and self._platform in ONE_PROCESS else name
        worker = self._workers.get(process)
        if worker is None or not worker.alive():
            if worker is not None:
                worker.close()
            worker = self._workers[process] = Worker(self._folder / f"{process}.log", self._cores, self._environment)
        return worker.ask({"do": do, "module": peer.module, **request})

    def numbers(self, name: str, mode: str) -> dict[str, np.ndarray]:
        """What one call of the peer gives; PeerError if it fails."""
        path = self._folder / "numbers.npz"
        self.ask(name, "numbers", mode=mode, path=str(path))
        with np.load(path) as arrays:
            return dict(arrays)
