"""A tree's floating arrays, which have a derivative, apart from its others: counters, keys, masks."""

from typing import Any

import jax
import jax.numpy as jnp


def is_float(a: Any) -> bool:
    """Whether an array has a tangent of its own dtype."""
    return jnp.issubdtype(a.dtype, jnp.floating)


def floats(tree: Any, like: Any = None) -> Any:
    """The tree, with None in place of each leaf that is no float; `like`, if given, decides which those are."""
    return jax.tree.map(lambda a, b: a if is_float(b) else None, tree, tree if like is None else like)


def joined(some: Any, others: Any) -> Any:
    """The tree `others`, with the leaves of `some` where these are not None."""
    return jax.tree.map(lambda a, b: b if a is None else a, some, others, is_leaf=lambda a: a is None)
