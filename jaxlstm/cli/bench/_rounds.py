"""The run itself: at each shape build and check every peer, then time them in alternating rounds."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlstm.cli.bench._agree import difference, tolerance
from jaxlstm.cli.bench._machine import installed_versions, machine, split_by_presence
from jaxlstm.cli.bench._results import Measurement, Results
from jaxlstm.cli.bench._work import PRODUCT, Shape
from jaxlstm.cli.bench._workers import PeerError, Workers
from jaxlstm.cli.bench.peers import OURS, PEERS

ROUND_S = 0.2
"""What the calls of one round last at least."""

CALLS = 3
"""How many they are at least, so that their median leaves out a first one that finds cold caches."""

PAUSE_S = 0.25
"""Between two rounds, for the last one's threads to fall asleep: OpenMP's spin for up to 0.2 s."""


class Settings(NamedTuple):
    """What to run.

    Attributes:
        shapes: in this order.
        cell: one of `CELLS`.
        modes: some of `MODES`.
        dtype: of weights and input.
        rounds: how many at each shape.
        cores: to pin to; None for all.
        peers: names in `PEERS`, installed or not, ours first.
    """

    shapes: Sequence[Shape]
    cell: str
    modes: Sequence[str]
    dtype: str
    rounds: int
    cores: Sequence[int] | None
    peers: Sequence[str]

    def num_steps(self) -> int:
        """How often `run` tells what it does."""
        present, _ = split_by_presence(self.peers)
        return len(self.shapes) * len(present) * (1 + self.rounds)


def run(settings: Settings, report: Callable[[str], None]) -> Results:
    """Measure; `report` hears what is being done, `settings.num_steps()` times.

    Raises:
        PeerError: not even the device is known, as jaxlstm's own process failed.
    """
    present, missing = split_by_presence(settings.peers)
    with tempfile.TemporaryDirectory() as folder, Workers(Path(folder), settings.cores, settings.dtype) as workers:
        device = workers.device()
        results = Results(
            machine=machine(settings.cores) | device,
            settings={
                "cell": settings.cell,
                "dtype": settings.dtype,
                "rounds": settings.rounds,
                "round_s": ROUND_S,
                "pause_s": PAUSE_S,
            },
            versions=installed_versions(present),
            missing=missing,
        )
        for shape in settings.shapes:
            comparison = _Comparison(workers, shape, settings, device["platform"])
            for peer in present:
                report(f"{shape}: compile and check {peer}")
                comparison.prepare(peer)
            for number in range(1, settings.rounds + 1):
                for peer in present:
                    report(f"{shape}: round {number} of {settings.rounds}, {peer}")
                    comparison.time(peer)
            results.measurements += comparison.measurements
    return results


class _Comparison:
    """All peers at one shape."""

    def __init__(self, workers: Workers, shape: Shape, settings: Settings, platform: str) -> None:
        self._workers, self._shape, self._settings, self._platform = workers, shape, settings, platform
        self._references: dict[str, tuple[str, dict[str, np.ndarray]]] = {}
        self.measurements: list[Measurement] = []

    def prepare(self, peer: str) -> None:
        """Build it, compile it, and hold its numbers against the reference's."""
        # Outputs are compared even where only training is timed.
        modes = [mode for mode in dict.fromkeys(("fwd", *self._settings.modes)) if mode in PEERS[peer].modes]
        pending = {
            mode: Measurement(peer, self._shape, mode, self._shape.flops(self._settings.cell, mode)) for mode in modes
        }
        if peer == OURS:
            pending[PRODUCT] = Measurement(peer, self._shape, PRODUCT, None)
        self.measurements += [m for mode, m in pending.items() if mode in (*self._settings.modes, PRODUCT)]
        try:
            settings = self._settings
            work = {
                "shape": self._shape,
                "cell": settings.cell,
                "dtype": settings.dtype,
                "platform": self._platform,
            }
            self._workers.ask(peer, "build", **work, modes=PEERS[peer].modes)
            for mode in list(pending):
                answer = self._workers.ask(peer, "compile", mode=mode)
                measurement = pending[mode]
                measurement.compile_s, measurement.temp_bytes = answer["compile_s"], answer["temp_bytes"]
                if mode == PRODUCT:
                    measurement.flops = answer["flops"]
                else:
                    self._check(measurement)
                del pending[mode]
        except PeerError as error:
            for measurement in pending.values():
                measurement.failure = str(error)

    def _check(self, measurement: Measurement) -> None:
        mode, peer = measurement.mode, measurement.peer
        numbers = self._workers.numbers(peer, mode)
        whose, reference = self._references.setdefault(mode, (peer, numbers))
        most, where = difference(numbers, reference)
        allowed = tolerance(self._settings.dtype, self._platform)
        if most > allowed:
            raise PeerError(f"its {where} differs from that of {whose} by {most:.1e}, more than {allowed:g}")
        measurement.difference = most

    def time(self, peer: str) -> None:
        """One round of each of its modes."""
        for measurement in self.measurements:
            if measurement.peer != peer or measurement.failure is not None:
                continue
            time.sleep(PAUSE_S)
            try:
                answer = self._workers.ask(peer, "round", mode=measurement.mode, seconds=ROUND_S, calls=CALLS)
            except PeerError as error:
                measurement.failure = str(error)
            else:
                measurement.rounds_s.append(answer["median_s"])
                measurement.calls.append(answer["calls"])
