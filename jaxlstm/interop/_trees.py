"""Nested dicts of arrays, as libraries wrap them: Flax's boxes and variables, orbax's `{"value": ...}`."""

import sys
from collections.abc import Mapping
from typing import Any

_DEEPEST = 64


def unwrapped(tree: Any, depth: int = 0) -> Any:
    """A module's parameters, or nested mappings of any kind, as nested dicts of bare leaves; a bare leaf as it is.

    Random states, which Flax's modules carry along, are left out.
    """
    nnx = sys.modules.get("flax.nnx")  # What is one of NNX's can only come from where it is imported.
    if nnx is not None:
        if isinstance(tree, nnx.Module):
            tree = nnx.state(tree, nnx.Param)
        if isinstance(tree, nnx.State):
            tree = nnx.to_pure_dict(tree)
        if isinstance(tree, nnx.Variable):
            return tree.get_value()
    if hasattr(tree, "unbox"):  # Linen's `Partitioned` and its like.
        return tree.unbox()
    if not isinstance(tree, Mapping):
        return tree
    if depth == _DEEPEST:
        raise ValueError(f"dictionaries more than {_DEEPEST} deep, or that hold each other.")
    if set(tree) == {"value"} and not isinstance(tree["value"], Mapping):
        return tree["value"]
    return {key: unwrapped(each, depth + 1) for key, each in tree.items() if key != "rngs"}


def joined(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dicts by their keys, joined by dots."""
    leaves = {}
    for key, each in tree.items():
        if isinstance(each, Mapping):
            leaves |= joined(each, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = each
    return leaves
