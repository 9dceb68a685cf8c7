"""Weights that a PyTorch module computes from others: weight norm's, which are computed here, and such as are refused.

    w = g * v / |v|,    |v| over the axes along which g is 1

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from jaxlstm._names import NAME
from jaxlstm.interop._cells import as_numpy

_NORM = (
    # The magnitude g, and from its match the direction v and the weight.
    (re.compile(rf"(.*\b|)({NAME})_g"), "{0}{1}_v"),
    (re.compile(rf"(.*\b|)parametrizations\.({NAME})\.original0"), "{0}parametrizations.{1}.original1"),
)
_REFUSED = (
    (
        re.compile(rf"(?:.*\b|)parametrizations\.({NAME})\..+"),
        "parametrized. Where it was made: torch.nn.utils.parametrize.remove_parametrizations(lstm, {0!r}).",
    ),
    (
        re.compile(rf"(?:.*\b|)({NAME})_orig"),
        "pruned, or under spectral_norm. Where it was made: torch.nn.utils.prune.remove(lstm, {0!r}), or "
        "torch.nn.utils.remove_spectral_norm(lstm, {0!r}).",
    ),
    (
        re.compile(r"(?:.*\b|)(_all_weight_values)\..+"),
        "dynamically quantized, its weights packed as int8. Give the floating model that it was made from.",
    ),
)


def explicit(leaves: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """By name, what makes each leaf; pairs under weight norm become the weight that they stand for."""
    made: dict[str, Callable[[], Any]] = {key: partial(leaves.__getitem__, key) for key in leaves}
    for key in leaves:
        for pattern, other in _NORM:
            match = pattern.fullmatch(key)
            direction = other.format(*match.groups()) if match else ""
            if match and direction in leaves:
                del made[key], made[direction]
                made[match[1] + match[2]] = partial(_normed, leaves, key, direction)
    return made


def refuse_reparametrized(keys: Mapping[str, Any] | list[str]) -> None:
    """Names that only stand for a weight, which can't be had from them."""
    for key in keys:
        for pattern, words in _REFUSED:
            if match := pattern.fullmatch(key):
                raise ValueError(f"{key}: {words.format(match[1])}")


def _normed(leaves: Mapping[str, Any], g_name: str, v_name: str) -> np.ndarray:
    g, v = as_numpy(g_name, leaves[g_name]), as_numpy(v_name, leaves[v_name])
    axes = tuple(range(v.ndim)) if g.ndim == 0 else tuple(k for k in range(g.ndim) if g.shape[k] == 1)
    fits = g.ndim == 0 or (g.ndim == v.ndim and all(g.shape[k] == v.shape[k] for k in range(g.ndim) if k not in axes))
    if not fits:
        raise ValueError(f"{g_name}: expected the magnitudes of {v_name} {list(v.shape)}, got {list(g.shape)}.")
    wide = v.astype(np.float64)
    return (wide * (g.astype(np.float64) / np.sqrt((wide**2).sum(axes, keepdims=g.ndim > 0)))).astype(v.dtype)
