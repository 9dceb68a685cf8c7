"""Strictness for every test: warnings are errors (pyproject.toml), and so is an implicit rank promotion."""

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
