"""From arrays under PyTorch's names to parameters: first the names are checked, then the arrays.

Two steps, so that a file whose names are wrong is refused before its arrays are read.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, NoReturn

import numpy as np

from jaxlstm._check import check_float
from jaxlstm._names import NAME, suffix, unflatten
from jaxlstm._shapes import cell_shapes, stack_shapes
from jaxlstm._types import AXES, BIASES, REQUIRED, CellParams, LSTMParams, axes_of
from jaxlstm.interop._cells import CELLS, cell_of_shape, kind_of
from jaxlstm.interop._reparametrized import refuse_reparametrized


class Plan(NamedTuple):
    """What names alone tell: the source's key by PyTorch's name, L (0 for a single cell), D."""

    keys: dict[str, str]
    num_layers: int
    num_directions: int


def plan_of(keys: Iterable[str], prefix: str) -> Plan:
    """Sort out the keys below `prefix`: each must be a parameter of one LSTM, GRU or RNN, and none may be missing.

    Raises:
        ValueError: no key, a surplus key, a missing one; the message names it.
    """
    keys = list(keys)
    if prefix and not prefix.endswith((".", "/")):
        prefix += "/" if any(key.startswith(f"{prefix}/") for key in keys) else "."
    names = {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}
    refuse_reparametrized(list(names.values()))
    if not names:
        raise ValueError(f"prefix: expected keys that start with {prefix!r}, got none. {_remedy(keys)}")

    matches = {name: re.fullmatch(NAME, name) for name in names}
    stacked = any(match and match["tail"] for match in matches.values())
    fields, num_layers, num_directions = set(REQUIRED), 1, 1
    for name, match in matches.items():
        if not match or bool(match["tail"]) != stacked:
            raise ValueError(f"{names[name]}: not a parameter of this LSTM, GRU or RNN. {_remedy(keys)}")
        fields |= set(BIASES) if match["field"] in BIASES else {match["field"]}
        num_layers = max(num_layers, 1 + int(match["layer"] or 0))
        num_directions = 2 if match["reverse"] else num_directions

    tails = (suffix(k, d) for k in range(num_layers) for d in range(num_directions)) if stacked else ("",)
    for name in (field + tail for tail in tails for field in AXES if field in fields):
        if name not in names:
            raise ValueError(
                f"{prefix}{name}: missing. All layers and directions have the same parameters, here "
                f"{', '.join(sorted(names))}; for a single bias b give bias_ih = b and bias_hh = 0."
            )
    return Plan(names, num_layers if stacked else 0, num_directions)


def assemble(plan: Plan, leaves: Mapping[str, np.ndarray]) -> LSTMParams | CellParams:
    """Parameters from arrays by PyTorch's names, once their dtypes and shapes are seen to fit.

    Raises:
        ValueError: a shape that does not fit; the message names the key.
        TypeError: a dtype that is not floating.
    """
    for name, leaf in leaves.items():
        check_float(plan.keys[name], leaf, "Convert it first.")
    num_gates, shapes = _shapes(plan, leaves)
    for name, shape in shapes.items():
        if leaves[name].shape != shape:
            axes = axes_of(name.partition("_l")[0], num_gates)
            _refuse_shape(plan.keys[name], f"[{axes}] = {list(shape)}", leaves[name])

    if plan.num_layers:
        return unflatten(leaves, plan.num_layers, plan.num_directions)
    return CellParams(**leaves)  # type: ignore


def _shapes(plan: Plan, leaves: Mapping[str, np.ndarray]) -> tuple[int, dict[str, tuple]]:
    """G, and the shapes that go with it and with I, H and P, as the first cell's weights tell them."""
    first = suffix(0, 0) if plan.num_layers else ""

    def of_first(field: str) -> np.ndarray:
        leaf = leaves[field + first]
        if leaf.ndim != 2 or not leaf.size:
            _refuse_shape(plan.keys[field + first], f"[{axes_of(field)}]", leaf)
        return leaf

    weight_ih, weight_hh = of_first("weight_ih"), of_first("weight_hh")
    hidden_size, proj_size = weight_hh.shape[1], 0
    if "weight_hr" + first in leaves:
        weight_hr = of_first("weight_hr")
        proj_size, hidden_size = weight_hr.shape
        if proj_size >= hidden_size:
            _refuse_shape(plan.keys["weight_hr" + first], f"[P, H] with 0 < P < H = {hidden_size}", weight_hr)
    cell = cell_of_shape((len(weight_hh), hidden_size))
    if cell is None:
        rows = " or ".join(f"{cell.num_gates * hidden_size} ({kind_of(cell)})" for cell in CELLS)
        expected = f"[{axes_of('weight_hh')}], for H = {hidden_size} with rows of {rows}"
        _refuse_shape(plan.keys["weight_hh" + first], expected, weight_hh)
    sizes = weight_ih.shape[1], hidden_size, cell.num_gates
    bias = BIASES[0] + first in leaves
    if not plan.num_layers:
        return cell.num_gates, cell_shapes(*sizes, bias=bias, proj_size=proj_size)
    both = plan.num_directions == 2
    return cell.num_gates, stack_shapes(*sizes, plan.num_layers, bidirectional=both, bias=bias, proj_size=proj_size)


def _refuse_shape(key: str, expected: str, leaf: np.ndarray) -> NoReturn:
    raise ValueError(
        f"{key}: expected {expected}, got {list(leaf.shape)}. "
        "All parameters of a stack must agree in H, P and I, where layers above the first have I = D*P."
    )


def _remedy(keys: list[str]) -> str:
    """Which prefixes would do."""
    found = sorted({match[1] for key in keys if (match := re.fullmatch(r"(.+)[./]weight_ih(?:_l0)?", key))})
    if not found:
        return "Expected names as in torch.nn.LSTM (weight_ih_l0, ...) or torch.nn.LSTMCell (weight_ih, ...)."
    return f"Pick one layer of a larger model by its prefix: {', '.join(map(repr, found))}."
