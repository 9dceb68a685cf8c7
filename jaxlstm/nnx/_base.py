"""What the NNX modules share: all but their constructors, their cell, and what their calls say of states.

It is functions and hardly any methods, since `nnx.tabulate` writes down every method's call.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxlstm import _flax
from jaxlstm._check import refuse
from jaxlstm._init import Initializer, initializer


class Stack(_flax.NotFlaxsCell, nnx.Module):
    """What `LSTM`, `GRU` and `Fold` share."""

    deterministic: bool
    rngs: Any

    def zero_state(self, batch_size: int | None = None) -> Any:
        """The zeros that a sequence starts from, in the dtype of the results if x is no wider than the parameters.

        Args:
            batch_size: B, or None for an unbatched x.

        Returns:
            An `LSTMState`, h `[L*D, B, P]`, c `[L*D, B, H]` (without B for None); of a GRU h alone, of another cell its
            own state.

        Raises:
            ValueError, TypeError: a size that is none.

        >>> import jaxlstm.nnx
        >>> from flax import nnx
        >>> jaxlstm.nnx.LSTM(3, 5, num_layers=2, proj_size=2, rngs=nnx.Rngs(0)).zero_state(batch_size=4).h.shape
        (2, 4, 2)
        """
        return _flax.zero_state(self, batch_size)

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view(model, deterministic=...)` sets.

        Args:
          deterministic: if True, nothing is dropped.
        """
        # `nnx.view_info` reads the docstring, and wants its argument two spaces in.
        if deterministic is not None:
            self.deterministic = deterministic


class OneCell(_flax.NotFlaxsCell, nnx.Module):
    """What `LSTMCell` and `GRUCell` share."""

    def zero_state(self, batch_size: int | None = None) -> Any:
        """The zeros that a sequence starts from, in the dtype of the results if x is no wider than the parameters.

        Args:
            batch_size: B, or None for an unbatched x.

        Returns:
            An `LSTMState`, h and c `[B, H]` (`[H]` for None); of a GRU h alone.

        Raises:
            ValueError, TypeError: a size that is none.

        >>> import jaxlstm.nnx
        >>> from flax import nnx
        >>> jaxlstm.nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)).zero_state(batch_size=4).c.shape
        (4, 5)
        """
        return _flax.zero_cell_state(self, batch_size)


def set_up(module: Any, rngs: nnx.Rngs, *starts: Initializer | None, **settings: Any) -> None:
    """A stack's constructor, from its arguments."""
    for name, value in settings.items():
        setattr(module, name, value)
    module.deterministic = False
    _flax.check_stack(module)
    _flax.warn_of_idle_dropout(module, stacklevel=7)
    _declare(module, _flax.shapes(module), rngs, *starts)
    for name in _flax.extra_names(module):
        extra = module.cell.init_extra(rngs.params(), module.hidden_size, module.param_dtype)
        setattr(module, name, nnx.Param(extra))
    module.rngs = rngs.dropout.fork() if _flax.drops(module) else None


def set_up_cell(module: Any, rngs: nnx.Rngs, *starts: Initializer | None, **settings: Any) -> None:
    """A cell's constructor, from its arguments."""
    for name, value in settings.items():
        setattr(module, name, value)
    _flax.check_cell(module)
    _declare(module, _flax.one_cells_shapes(module), rngs, *starts)


def run(function: Callable, module: Any, x: Any, state: Any, **options: Any) -> Any:
    """A stack's call, by `jaxlstm.lstm` or its like."""
    _flax.refuse_surplus(module, vars(module), _flax.shapes(module))
    leaves: dict[str, Any] = {name: getattr(module, name)[...] for name in _flax.shapes(module)}
    leaves |= {name: getattr(module, name).get_value() for name in _flax.extra_names(module)}
    # Only a call that drops may draw a key: drawing one changes the stream, which jit must then hand back.
    dropout_key = None if module.rngs is None or module.deterministic else module.rngs()
    return _flax.run(function, module, leaves, x, state, dropout_key=dropout_key, **options)


def run_cell(function: Callable, module: Any, x: Any, state: Any) -> Any:
    """A cell's call, by `jaxlstm.lstm_cell` or its like."""
    _flax.refuse_surplus(module, vars(module), _flax.one_cells_shapes(module))
    leaves: dict[str, jax.Array] = {name: getattr(module, name)[...] for name in _flax.one_cells_shapes(module)}
    return _flax.run_cell(function, module, leaves, x, state)


def _declare(module: Any, shapes: dict[str, tuple], rngs: nnx.Rngs, *starts: Initializer | None) -> None:
    """Draw the module's parameters and set them as its attributes."""
    if not isinstance(rngs, nnx.Rngs):
        refuse("rngs", "nnx.Rngs", type(rngs).__name__, "Pass rngs=nnx.Rngs(0).", TypeError)
    for name, shape in shapes.items():
        draw = initializer(name, module.hidden_size, *starts)
        setattr(module, name, nnx.Param(draw(rngs.params(), shape, module.param_dtype)))
