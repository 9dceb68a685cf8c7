"""From leaves under PyTorch's names to parameters, and back: first the names are checked, then the arrays of a file.

Two steps, so that a file whose names are wrong is refused before its arrays are read.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm._check import FLOATS
from jaxlstm._init import cell_shapes, lstm_shapes
from jaxlstm._names import flatten, suffix, unflatten
from jaxlstm._types import LSTMCellParams, LSTMParams

_FIELDS = {"weight_ih": "4H, I", "weight_hh": "4H, P", "bias_ih": "4H", "bias_hh": "4H", "weight_hr": "P, H"}
_NAME = re.compile(rf"({'|'.join(_FIELDS)})(?:_l(0|[1-9][0-9]{{0,3}})(_reverse)?)?")


class Layout(NamedTuple):
    """What names alone tell: the source's key by PyTorch's name, L (0 for a single cell), D."""

    keys: dict[str, str]
    num_layers: int
    num_directions: int


def named_parameters(params: LSTMParams | LSTMCellParams) -> dict[str, Any]:
    """Leaves under PyTorch's names, as Flax's modules here hold them; under any transformation.

    Args:
        params: of a stack or of one cell; or what has their structure: gradients, moments, an ensemble's with a leading
            axis.

    Returns:
        Leaves by name, as they are, in PyTorch's order: the `"params"` of Linen's variables, or what
        `nnx.update(lstm, named_parameters(params))` takes.

    Raises:
        TypeError: something of another structure.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> list(jaxlstm.named_parameters(params))
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """
    stacked = isinstance(params, tuple | list) and all(
        isinstance(cells, tuple | list) and all(isinstance(cell, LSTMCellParams) for cell in cells) for cells in params
    )
    if not stacked and not isinstance(params, LSTMCellParams):
        raise TypeError(
            f"params: expected LSTMParams or LSTMCellParams, got {type(params).__name__}. "
            "Leaves by name become one by from_named_parameters."
        )
    return flatten(params)


def from_named_parameters(leaves: Mapping[str, Any]) -> Any:
    """Parameters from leaves under PyTorch's names; the inverse of `named_parameters`, under any transformation.

    Args:
        leaves: by name, all of one LSTM's: Linen's `variables["params"]`, boxed ones too, NNX's
            `nnx.state(lstm, nnx.Param)`, and gradients of either. Names alone tell L, D and whether there is bias.

    Returns:
        `LSTMParams`, or `LSTMCellParams` where names have no `_l0`, of the leaves as they are. Files, `state_dict`s and
        numpy's arrays are for `jaxlstm.interop.from_torch`, which copies and looks at shapes.

    Raises:
        ValueError: a missing or surplus name.
        TypeError: leaves that are no mapping, or a leaf that is none.

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> model, x = jaxlstm.LSTM(3, 5), jnp.ones((7, 2, 3))
    >>> variables = model.init(jax.random.key(0), x)
    >>> @jax.jit
    ... def run(variables, x):
    ...     return jaxlstm.lstm(jaxlstm.from_named_parameters(variables["params"]), x)
    >>> run(variables, x)[0].shape
    (7, 2, 5)
    """
    if not isinstance(leaves, Mapping):
        raise TypeError(
            f"leaves: expected a mapping of PyTorch's names to arrays, got {type(leaves).__name__}. Linen has one in "
            'variables["params"], NNX in nnx.state(lstm, nnx.Param).'
        )
    plan = layout(leaves, "")
    arrays = {name: _unboxed(name, leaves[key]) for name, key in plan.keys.items()}
    return _assembled(plan, arrays)


def _unboxed(name: str, leaf: Any) -> Any:
    """The one leaf of an `nn.Partitioned`, an `nnx.Param`, or of itself."""
    inside = jax.tree.leaves(leaf)
    if len(inside) != 1:
        raise TypeError(f"{name}: expected an array, got {type(leaf).__name__}. Leave out what is absent.")
    return inside[0]


def layout(keys: Iterable[str], prefix: str) -> Layout:
    """Sort out the keys below `prefix`: each must be a parameter of one LSTM, and none of its may be missing.

    Raises:
        ValueError: no key, a surplus key, a missing one; the message names it.
    """
    prefix += "." if prefix and not prefix.endswith(".") else ""
    keys = [str(key) for key in keys]
    names = {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}
    if not names:
        raise ValueError(f"prefix: expected keys that start with {prefix!r}, got none. {_remedy(keys)}")

    matches = {name: _NAME.fullmatch(name) for name in names}
    stacked = any(match and match[2] for match in matches.values())
    fields, num_layers, num_directions = {"weight_ih", "weight_hh"}, 1, 1
    for name, match in matches.items():
        if not match or bool(match[2]) != stacked:
            raise ValueError(f"{names[name]}: not a parameter of this LSTM. {_remedy(keys)}")
        fields |= {"bias_ih", "bias_hh"} if match[1].startswith("bias") else {match[1]}
        num_layers = max(num_layers, 1 + int(match[2] or 0))
        num_directions = 2 if match[3] else num_directions

    tails = (suffix(k, d) for k in range(num_layers) for d in range(num_directions)) if stacked else ("",)
    for name in (field + tail for tail in tails for field in _FIELDS if field in fields):
        if name not in names:
            raise ValueError(
                f"{prefix}{name}: missing. All layers and directions have the same parameters, here "
                f"{', '.join(sorted(names))}; for a single bias b give bias_ih = b and bias_hh = 0."
            )
    return Layout(names, num_layers if stacked else 0, num_directions)


def assemble(layout: Layout, leaves: Mapping[str, np.ndarray]) -> LSTMParams | LSTMCellParams:
    """Parameters from arrays by PyTorch's names, copied, once their dtypes and shapes are seen to fit.

    Raises:
        ValueError: a shape that does not fit; the message names the key.
        TypeError: a dtype that is not floating.
    """
    for name, leaf in leaves.items():
        if str(leaf.dtype) not in FLOATS:
            raise TypeError(
                f"{layout.keys[name]}: expected one of {', '.join(FLOATS)}, got {leaf.dtype}. Convert it first."
            )
    for name, shape in _shapes(layout, leaves).items():
        if leaves[name].shape != shape:
            axes = _FIELDS[name.partition("_l")[0]]
            _refuse_shape(layout.keys[name], f"[{axes}] = {list(shape)}", leaves[name])

    # jnp.array promises a copy, jnp.asarray does not: the source's owner may go on training it.
    return _assembled(layout, {name: jnp.array(leaf) for name, leaf in leaves.items()})


def _assembled(layout: Layout, leaves: Mapping[str, Any]) -> LSTMParams | LSTMCellParams:
    if layout.num_layers:
        return unflatten(leaves, layout.num_layers, layout.num_directions)
    return LSTMCellParams(**leaves)


def _shapes(layout: Layout, leaves: Mapping[str, np.ndarray]) -> Mapping[str, tuple]:
    """The shapes that go with I, H and P, as the first cell's weights tell them."""
    first = suffix(0, 0) if layout.num_layers else ""
    key, weight_ih = layout.keys["weight_ih" + first], leaves["weight_ih" + first]
    if weight_ih.ndim != 2 or not weight_ih.shape[0] or weight_ih.shape[0] % 4:
        _refuse_shape(key, "[4H, I], rows a multiple of 4", weight_ih)
    hidden_size, input_size = weight_ih.shape[0] // 4, weight_ih.shape[1]
    proj_size = 0
    if "weight_hr" + first in leaves:
        key, weight_hr = layout.keys["weight_hr" + first], leaves["weight_hr" + first]
        if weight_hr.ndim != 2 or not 0 < weight_hr.shape[0] < hidden_size:
            _refuse_shape(key, f"[P, H] with 0 < P < H = {hidden_size}", weight_hr)
        proj_size = weight_hr.shape[0]
    bias = "bias_ih" + first in leaves
    if not layout.num_layers:
        return cell_shapes(input_size, hidden_size, bias=bias, proj_size=proj_size)
    return lstm_shapes(
        input_size,
        hidden_size,
        layout.num_layers,
        bias=bias,
        bidirectional=layout.num_directions == 2,
        proj_size=proj_size,
    )


def _refuse_shape(key: str, expected: str, leaf: np.ndarray) -> NoReturn:
    raise ValueError(
        f"{key}: expected {expected}, got {list(leaf.shape)}. "
        "All parameters of an LSTM must agree in H, P and I, where layers above the first have I = D*P."
    )


def _remedy(keys: list[str]) -> str:
    """Which prefixes would do."""
    found = sorted({match[1] for key in keys if (match := re.fullmatch(r"(.+)\.weight_ih(?:_l0)?", key))})
    if not found:
        return "Expected names as in torch.nn.LSTM (weight_ih_l0, ...) or torch.nn.LSTMCell (weight_ih, ...)."
    return f"Pick one layer of a larger model by its prefix: {', '.join(map(repr, found))}."
