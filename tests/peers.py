"""What tests of other libraries' weights share: an input, and our run of what was imported beside theirs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxlstm
from jaxlstm.interop._cells import cell_of_params

T, B, I, H = 5, 2, 3, 4  # noqa: E741
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, T, I)), jnp.float32)


def shaken(tree: Any) -> Any:
    """A tree of parameters none of which is at its start, as a bias of 0 would be."""
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.3 * random.normal(size=leaf.shape).astype(leaf.dtype), tree)


def assert_runs_as(
    params: Any, expected: Any, cell: jaxlstm.Cell | None = None, *, rtol: float = 0.0, atol: float = 1e-6
) -> None:
    """Ours, by the cell that they tell or by this one, gives what theirs gave."""
    x = X.astype(jax.tree.leaves(params)[0].dtype)
    y, _ = jaxlstm.fold(cell or cell_of_params(params), params, x, batch_first=True)
    np.testing.assert_allclose(y, expected, rtol=rtol, atol=atol)
