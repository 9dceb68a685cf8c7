"""How two pytrees of parameters compare."""

from typing import Any

import jax
import numpy as np


def assert_identical(got: Any, expected: Any) -> None:
    """The same tree of the same arrays, value for value."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
