"""What the Linen modules share: all but their fields, their cell, and what their calls say of states."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax.core import Tracer

from jaxlstm import _flax
from jaxlstm._check_cell import check_cell
from jaxlstm._init import initializer


class Stack(_flax.NotFlaxsCell, nn.Module):
    """What `LSTM`, `GRU` and `Fold` share."""

    def __post_init__(self) -> None:
        check_cell(self.cell)
        _flax.check_stack(self)
        # init, apply and bind build the module again, as a clone that is told its parent; the user leaves it out.
        if self.parent is self.__dataclass_fields__["parent"].default:
            _flax.warn_of_idle_dropout(self, stacklevel=5)
        super().__post_init__()

    @nn.nowrap
    def zero_state(self, batch_size: int | None = None) -> Any:
        """The zeros that a sequence starts from, in the dtype of the results if x is no wider than the parameters.

        Args:
            batch_size: B, or None for an unbatched x.

        Returns:
            An `LSTMState`, h `[L*D, B, P]`, c `[L*D, B, H]` (without B for None); of a GRU h alone, of another cell its
            own state.

        Raises:
            ValueError, TypeError: a size that is none.

        >>> import jaxlstm
        >>> jaxlstm.LSTM(3, 5, num_layers=2, proj_size=2).zero_state(batch_size=4).h.shape
        (2, 4, 2)
        """
        return _flax.zero_state(self, batch_size)

    @nn.nowrap
    def run(self, function: Callable, x: Any, state: Any, deterministic: bool | None, **options: Any) -> Any:
        """The call, by `jaxlstm.lstm` or its like, in a compact method."""
        leaves = _declare(self, _flax.shapes(self))
        for name in _flax.extra_names(self):
            leaves[name] = self.param(name, self.cell.init_extra, self.hidden_size, self.param_dtype)
        dropout_key = self.make_rng("dropout") if _drops(self, deterministic) else None
        return _flax.run(function, self, leaves, x, state, dropout_key=dropout_key, **options)


class OneCell(_flax.NotFlaxsCell, nn.Module):
    """What `LSTMCell` and `GRUCell` share."""

    def __post_init__(self) -> None:
        _flax.check_cell(self)
        super().__post_init__()

    @nn.nowrap
    def zero_state(self, batch_size: int | None = None) -> Any:
        """The zeros that a sequence starts from, in the dtype of the results if x is no wider than the parameters.

        Args:
            batch_size: B, or None for an unbatched x.

        Returns:
            An `LSTMState`, h and c `[B, H]` (`[H]` for None); of a GRU h alone.

        Raises:
            ValueError, TypeError: a size that is none.

        >>> import jaxlstm
        >>> jaxlstm.LSTMCell(3, 5).zero_state(batch_size=4).c.shape
        (4, 5)
        """
        return _flax.zero_cell_state(self, batch_size)

    @nn.nowrap
    def run(self, function: Callable, x: Any, state: Any) -> Any:
        """The call, by `jaxlstm.lstm_cell` or its like, in a compact method."""
        return _flax.run_cell(function, self, _declare(self, _flax.one_cells_shapes(self)), x, state)


def _declare(module: Any, shapes: dict[str, tuple]) -> dict[str, Any]:
    """The module's parameters by name, drawn if it is being initialized."""
    _flax.refuse_surplus(module, module.variables.get("params", {}), shapes)
    starts = (module.weight_init, module.bias_init, module.weight_hh_init, module.bias_hh_init)
    return {
        name: module.param(name, initializer(name, module.hidden_size, *starts), shape, module.param_dtype)
        for name, shape in shapes.items()
    }


def _drops(module: Any, deterministic: bool | None) -> bool:
    """Whether a call drops: the constructor or the call says so, by default neither."""
    if module.deterministic is None and deterministic is None:
        return False
    deterministic = nn.merge_param("deterministic", module.deterministic, deterministic)
    if not _flax.drops(module):
        return False
    if isinstance(deterministic, Tracer):
        raise TypeError(
            "deterministic: expected True or False, got a traced value. nn.remat and nn.jit trace what a call is "
            "given: tell the constructor, LSTM(..., deterministic=...)."
        )
    return not deterministic
