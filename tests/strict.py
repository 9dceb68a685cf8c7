"""Strictness for every test, in processes that tests start too: nothing is promoted unasked, neither rank nor dtype."""

import jax


def strictly() -> None:
    """Make an implicit promotion an error. Warnings are errors by pyproject.toml."""
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
