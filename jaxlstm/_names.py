"""PyTorch's parameter names: the one correspondence that modules, files and `state_dict`s share.

`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_hr_l0`, with `_l{layer}` counting layers and
`_reverse` behind it for the second direction; a single cell's names have neither.
"""

from collections.abc import Mapping
from typing import Any

from jaxlstm._types import LSTMCellParams, LSTMParams


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
