"""What was measured, and everything that is computed from it: the tables, the file and the picture only show it."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jaxlstm.cli.bench._work import PRODUCT, Shape
from jaxlstm.cli.bench.peers import OURS, PEERS

BEST_JAX = "best JAX peer"
"""Stands beside the peers' names: whichever of those that run on JAX is fastest at a shape."""

STEADY = 0.25
"""The most that the rounds of a time may spread before a ratio of it is marked."""


@dataclass
class Measurement:
    """One peer in one mode at one shape.

    Attributes:
        peer: its name in `PEERS`.
        shape: B, T, I, H, L, D.
        mode: "fwd", "train" or "product".
        flops: floating-point operations of one call's matrix products; None where they are not known yet.
        compile_s: seconds to trace, lower and compile; None where nothing is compiled.
        temp_bytes: peak of temporary memory of one call; None where unknown.
        difference: largest difference from the reference, as a share of the reference's largest element.
        rounds_s: each round's median of seconds a call.
        calls: each round's number of calls.
        failure: the reason why there is no figure, or None.
    """

    peer: str
    shape: Shape
    mode: str
    flops: float | None
    compile_s: float | None = None
    temp_bytes: int | None = None
    difference: float | None = None
    rounds_s: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    failure: str | None = None

    @property
    def median_s(self) -> float | None:
        """Seconds a call: the median of the rounds."""
        return statistics.median(self.rounds_s) if self.rounds_s and self.failure is None else None

    @property
    def quartiles_s(self) -> tuple[float, float] | None:
        """The rounds' first and third quartile."""
        if self.median_s is None:
            return None
        low, high = np.quantile(self.rounds_s, (0.25, 0.75))
        return float(low), float(high)

    @property
    def spread(self) -> float | None:
        """The interquartile range as a share of the median; None of fewer than two rounds."""
        if self.median_s is None or self.quartiles_s is None or len(self.rounds_s) < 2:
            return None
        low, high = self.quartiles_s
        return (high - low) / self.median_s

    @property
    def flops_per_s(self) -> float | None:
        """The rate of its matrix products, were there nothing else."""
        return None if self.median_s is None or self.flops is None else self.flops / self.median_s

    @property
    def steps_per_s(self) -> float | None:
        """Time steps a second, each of the whole batch through all layers and directions: T / time."""
        return None if self.median_s is None else self.shape.time / self.median_s


@dataclass
class Results:
    """One run of the command.

    Attributes:
        machine: what it ran on.
        settings: the command's options.
        versions: of the libraries that took part, by distribution.
        missing: how to install what was not there, by peer.
        measurements: all of them.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
    missing: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)

    def find(self, shape: Shape, mode: str, peer: str) -> Measurement | None:
        """The one measurement of these."""
        wanted = (shape, mode, peer)
        return next((m for m in self.measurements if (m.shape, m.mode, m.peer) == wanted), None)

    def peers(self, mode: str) -> list[str]:
        """The others that were measured, in the table's order."""
        return [name for name in PEERS if name != OURS and any(m.peer == name for m in self.of(mode))]

    def of(self, mode: str) -> list[Measurement]:
        """All measurements of one mode."""
        return [m for m in self.measurements if m.mode == mode]

    def shapes(self) -> list[Shape]:
        """In the order they were measured."""
        return list(dict.fromkeys(m.shape for m in self.measurements))

    def modes(self) -> list[str]:
        """In the order they were measured, without the matrix product."""
        return [mode for mode in dict.fromkeys(m.mode for m in self.measurements) if mode != PRODUCT]

    def _median(self, shape: Shape, mode: str, peer: str) -> float | None:
        found = self.find(shape, mode, peer)
        return None if found is None else found.median_s

    def ratio(self, shape: Shape, mode: str, peer: str) -> float | None:
        """Our time over theirs; None if either has none."""
        ours, theirs = self._median(shape, mode, OURS), self._median(shape, mode, peer)
        return None if ours is None or theirs is None else ours / theirs

    def is_unsteady(self, shape: Shape, mode: str, peer: str) -> bool:
        """Whether the rounds of either time in that ratio spread by more than `STEADY`."""
        both = (self.find(shape, mode, name) for name in (OURS, peer))
        return any(m is not None and m.spread is not None and m.spread > STEADY for m in both)

    def best_jax(self, shape: Shape, mode: str) -> str | None:
        """The fastest other JAX peer; None if there is none."""
        times = {peer: self._median(shape, mode, peer) for peer in self.peers(mode) if PEERS[peer].is_jax}
        known = {peer: time for peer, time in times.items() if time is not None}
        return min(known, key=known.__getitem__, default=None)

    def best_jax_ratio(self, shape: Shape, mode: str) -> float | None:
        """Our time over that of the fastest other JAX peer."""
        best = self.best_jax(shape, mode)
        return None if best is None else self.ratio(shape, mode, best)

    def share_of_product(self, measurement: Measurement) -> float | None:
        """Its rate over that of the plain matrix product in the same rounds."""
        product = self.find(measurement.shape, PRODUCT, OURS)
        if product is None or product.flops_per_s is None or measurement.flops_per_s is None:
            return None
        return measurement.flops_per_s / product.flops_per_s

    def mean_ratios(self, mode: str) -> dict[str, float | None]:
        """Geometric means over the shapes of the ratio to each peer, and to `BEST_JAX`."""
        means = {
            peer: geometric_mean(self.ratio(shape, mode, peer) for shape in self.shapes()) for peer in self.peers(mode)
        }
        return means | {BEST_JAX: geometric_mean(self.best_jax_ratio(shape, mode) for shape in self.shapes())}

    def as_json(self) -> dict[str, Any]:
        """Everything, raw and computed."""
        return {
            "machine": self.machine,
            "settings": self.settings,
            "versions": self.versions,
            "missing": self.missing,
            "geometric_means_of_ratios": {mode: self.mean_ratios(mode) for mode in self.modes()},
            "measurements": [self._measurement_as_json(m) for m in self.measurements],
        }

    def _measurement_as_json(self, m: Measurement) -> dict[str, Any]:
        computed = {
            "median_s": m.median_s,
            "quartiles_s": m.quartiles_s,
            "flops_per_s": m.flops_per_s,
            "share_of_product": self.share_of_product(m),
        }
        if m.mode != PRODUCT:
            computed |= {"steps_per_s": m.steps_per_s, "ours_over_theirs": self.ratio(m.shape, m.mode, m.peer)}
        return asdict(m) | {"shape": m.shape._asdict()} | computed


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Of those that are there; None of none."""
    known: Sequence[float] = [ratio for ratio in ratios if ratio is not None]
    return math.exp(statistics.fmean(map(math.log, known))) if known else None
