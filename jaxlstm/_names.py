"""PyTorch's parameter names: the one correspondence that modules, files and `state_dict`s share.

`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_hr_l0`, with `_l{layer}` counting layers and
`_reverse` behind it for the second direction; a single cell's names have neither.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax

from jaxlstm._types import AXES, REQUIRED, LSTMCellParams, LSTMParams

NAME = rf"(?P<field>{'|'.join(AXES)})(?P<tail>_l(?P<layer>0|[1-9][0-9]{{0,3}})(?P<reverse>_reverse)?)?"
"""A parameter's name as a regular expression: its field in `CellParams`, and the tail that `suffix` writes, if any."""


def suffix(layer: int, direction: int) -> str:
    """`_l0`, `_l0_reverse`, `_l1`, ..."""
    return f"_l{layer}" + ("_reverse" if direction else "")


def flatten(params: LSTMParams | LSTMCellParams) -> dict:
    """Leaves by PyTorch's names, in PyTorch's order; absent ones are left out."""
    if isinstance(params, LSTMCellParams):
        return {name: leaf for name, leaf in params._asdict().items() if leaf is not None}
    return {
        name + suffix(layer, direction): leaf
        for layer, cells in enumerate(params)
        for direction, cell in enumerate(cells)
        for name, leaf in flatten(cell).items()
    }


def unflatten(leaves: Mapping[str, Any], num_layers: int, num_directions: int) -> LSTMParams:
    """`LSTMParams` from leaves by PyTorch's names; what is absent is None."""
    return tuple(
        tuple(
            LSTMCellParams(
                **{
                    name: leaves[name + suffix(layer, direction)]
                    for name in LSTMCellParams._fields
                    if name + suffix(layer, direction) in leaves
                }
            )
            for direction in range(num_directions)
        )
        for layer in range(num_layers)
    )


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
    num_layers = next(k for k in itertools.count() if f"weight_ih_l{k}" not in leaves)
    num_directions = 2 if "weight_ih_l0_reverse" in leaves else 1
    tails = [suffix(layer, direction) for layer in range(num_layers) for direction in range(num_directions)] or [""]
    fields = {field for field in LSTMCellParams._fields for tail in tails if field + tail in leaves}
    expected = {field + tail for field in fields | set(REQUIRED) for tail in tails}
    for kind, odd in (("missing", expected - set(leaves)), ("surplus", set(leaves) - expected)):
        if odd:
            raise ValueError(
                f"leaves: {kind}: {', '.join(sorted(map(str, odd)))}. Expected the names of one torch.nn.LSTM "
                "(weight_ih_l0, ...) or torch.nn.LSTMCell (weight_ih, ...), of which all layers have the same."
            )
    arrays = {name: _unboxed(name, leaf) for name, leaf in leaves.items()}
    return unflatten(arrays, num_layers, num_directions) if num_layers else LSTMCellParams(**arrays)


def _unboxed(name: str, leaf: Any) -> Any:
    """The one leaf of an `nn.Partitioned`, an `nnx.Param`, or of itself; a rule's own parameters are a tree."""
    if name.startswith("extra"):
        return leaf.get_value() if hasattr(leaf, "get_value") else leaf
    inside = jax.tree.leaves(leaf)
    if len(inside) != 1:
        raise TypeError(f"{name}: expected an array, got {type(leaf).__name__}. Leave out what is absent.")
    return inside[0]
