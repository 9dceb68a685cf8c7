"""Whether a peer computes what the reference computes."""

import math

import numpy as np

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Of the largest difference, as a share of the reference's largest element. An LSTM with its gates in another order, a
bias forgotten or a direction flipped is off by several tenths and more."""


def tolerance(dtype: str, platform: str) -> float:
    """What is allowed on `platform`: accelerators take float32 products with 8 to 10 bits unless told otherwise."""
    return TOLERANCES["bfloat16" if dtype == "float32" and platform != "cpu" else dtype]


def difference(found: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> tuple[float, str]:
    """The largest difference of any array, relative to the reference's largest element, and that array's name.

    Infinite where an array is missing, has another shape, or holds what is not finite.
    """

    def one(name: str) -> float:
        wanted, got = reference[name], found.get(name)
        if got is None or got.shape != wanted.shape or not np.isfinite(got).all():
            return math.inf
        # The tiny number is for a reference that is all zeros.
        return float(np.max(np.abs(got - wanted)) / max(np.max(np.abs(wanted)), np.finfo(wanted.dtype).tiny))

    worst = max(reference, key=one)
    return one(worst), worst
