"""How two pytrees compare, leaf by leaf; what differs is named by where it stands in them."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np


def _leaves(got: Any, wanted: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        where = jax.tree_util.keystr(path)
        assert np.shape(a) == np.shape(b), where
        yield where, np.asarray(a), np.asarray(b)


def assert_identical(got: Any, wanted: Any) -> None:
    """The same tree of the same bits."""
    for where, a, b in _leaves(got, wanted):
        assert a.dtype == b.dtype, where
        assert a.tobytes() == b.tobytes(), where


def assert_close(got: Any, wanted: Any, atol: float = 1e-6, rtol: float = 0.0) -> None:
    """The same tree, and all values within the tolerance."""
    for where, a, b in _leaves(got, wanted):
        np.testing.assert_allclose(a, b, rtol, atol, err_msg=where)


def assert_within_rounding(got: Any, wanted: Any, rounding: float = 1e-5, least: float = 1.0) -> None:
    """The same tree, and all values within so much of the largest one of their array, taken as `least` at least."""
    for where, a, b in _leaves(got, wanted):
        largest = max(least, float(np.abs(b).max()))
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=0, atol=rounding * largest, err_msg=where)
