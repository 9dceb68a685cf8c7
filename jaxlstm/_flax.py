"""What the Linen and the NNX modules share: which parameters they have, how these start, and how they are run.

A `module` here is either of them: both have their constructor's arguments as attributes.
"""

import re
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm._call import to
from jaxlstm._check import check_dropout, check_dtype, check_flag, check_int, check_sizes, refuse, refuse_packed
from jaxlstm._check_cell import Sizes, default_state
from jaxlstm._names import NAME, suffix, unflatten
from jaxlstm._shapes import cell_shapes, stack_shapes
from jaxlstm._types import CellParams, LSTMState

State = LSTMState | tuple[jax.Array, jax.Array] | None


class NotFlaxsCell:
    """What Flax's `RNN` asks a cell for, so that it says why it can't have one of ours.

    Its cells are called `cell(carry, x) -> (carry, y)` with a carry `(c, h)`, ours `cell(x, state) -> state` with a
    state `(h, c)`, as PyTorch's. Were both taken, only the arguments' kinds would tell which order is meant.
    """

    num_feature_axes = 1

    def initialize_carry(self, *_args: object, **_options: object) -> None:
        """Refuse: this is no cell for Flax's `RNN` and `Bidirectional`.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__}: Flax's RNN and Bidirectional call cell(carry, x) with a carry (c, h); here it is "
            "cell(x, state) with a state (h, c). Use jaxlstm's LSTM(..., bidirectional=...), which runs over time, or "
            "fold lstm_cell by jax.lax.scan."
        )


def check_stack(module) -> None:
    """Refuse what no stack can be built from, and make Python's own numbers of numpy's."""
    module.dropout = check_dropout(module.dropout)
    for name in ("checkpoint_every", "unroll"):
        if getattr(module, name) is not None:
            setattr(module, name, check_int(name, getattr(module, name), 1))
    proj_size = ("proj_size",) if hasattr(module, "proj_size") else ()  # Which a GRU has not.
    sizes = ("input_size", "hidden_size", "num_layers", *proj_size)
    _settle(module, sizes, ("bias", "batch_first", "bidirectional"))


def check_cell(module) -> None:
    """Refuse what no cell can be built from, and make Python's own numbers of numpy's."""
    _settle(module, ("input_size", "hidden_size"), ("bias",))


def _settle(module, sizes: tuple[str, ...], flags: tuple[str, ...]) -> None:
    check_sizes(**{name: getattr(module, name) for name in sizes})
    for name in sizes:
        setattr(module, name, int(getattr(module, name)))
    for name in flags:
        setattr(module, name, check_flag(name, getattr(module, name)))
    check_dtype("param_dtype", module.param_dtype)
    if module.dtype is not None:
        check_dtype("dtype", module.dtype)


def drops(module) -> bool:
    """Whether dropout has anywhere to act: the last layer's output is never dropped."""
    return module.dropout > 0 and module.num_layers > 1


def warn_of_idle_dropout(module, *, stacklevel: int) -> None:
    """Warn, as PyTorch does, of a dropout that acts nowhere; `stacklevel` counts from here to the user's line."""
    if module.dropout > 0 and not drops(module):
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
            f"num_layers greater than 1, but got dropout={module.dropout} and num_layers={module.num_layers}",
            UserWarning,
            stacklevel=stacklevel,
        )


def shapes(module) -> dict[str, tuple]:
    """The shape of each of a stack's parameters, by PyTorch's name."""
    return stack_shapes(
        module.input_size,
        module.hidden_size,
        module.cell.num_gates,
        module.num_layers,
        bias=module.bias,
        bidirectional=module.bidirectional,
        proj_size=_proj_size(module),
    )


def one_cells_shapes(module) -> dict[str, tuple]:
    """The shape of each of a cell's parameters, by PyTorch's name."""
    return cell_shapes(module.input_size, module.hidden_size, module.cell.num_gates, bias=module.bias)


def extra_names(module) -> list[str]:
    """The names of the parameters that a cell's rule has of its own, one for each layer and direction."""
    if module.cell.init_extra is None:
        return []
    return ["extra" + suffix(k, d) for k in range(module.num_layers) for d in range(1 + module.bidirectional)]


def refuse_surplus(module, given: Iterable[str], own: Iterable[str]) -> None:
    """Refuse weights that the module has no place for, which Flax passes over: of a layer, a direction or a bias more.

    Only PyTorch's names count: a module that shares this one's scope or inherits from it may have others.
    """
    surplus = sorted(name for name in set(given) - set(own) if re.fullmatch(NAME, name))
    if surplus:
        mend = "Build the module with the num_layers, bidirectional and bias that the weights are of."
        expected = f"the parameters of {type(module).__name__}: {', '.join(own)}"
        refuse("params", expected, f"besides them {', '.join(surplus)}", mend)


def _proj_size(module) -> int:
    return getattr(module, "proj_size", 0)


def zero_state(module, batch_size: int | None) -> Any:
    """The state that a stack starts from, in the dtype that it gives back."""
    return _zeros(module, (module.num_layers * (1 + module.bidirectional), *_batch(batch_size)))


def zero_cell_state(module, batch_size: int | None) -> Any:
    """The state that a cell module starts from, in the dtype that it gives back."""
    return _zeros(module, _batch(batch_size))


def _batch(batch_size: int | None) -> tuple[int, ...]:
    return () if batch_size is None else (check_int("batch_size", batch_size, 0),)


def _zeros(module, lead: tuple[int, ...]) -> Any:
    dtype = module.param_dtype if module.dtype is None else module.dtype
    sizes = Sizes(1, 1, module.input_size, module.hidden_size, _proj_size(module) or module.hidden_size)
    return default_state(module.cell, lead, sizes, dtype)


def run(function: Callable, module, leaves: dict[str, Any], x: jax.typing.ArrayLike, state: Any, **options) -> Any:
    """A stack's call, from its leaves by name: by `jaxlstm.lstm` or its like."""
    _refuse_strangers(x, state)
    leaves, x = _cast(leaves, x, module.dtype)
    return function(
        unflatten(leaves, module.num_layers, 1 + module.bidirectional),
        x,
        state,
        batch_first=module.batch_first,
        dropout=module.dropout,
        implementation=module.implementation,
        checkpoint_every=module.checkpoint_every,
        unroll=module.unroll,
        **options,
    )


def run_cell(function: Callable, module, leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, state: Any) -> Any:
    """A cell module's call, from its leaves by name: by `jaxlstm.lstm_cell` or its like."""
    _refuse_strangers(x, state)
    leaves, x = _cast(leaves, x, module.dtype)
    if state is None:
        state = _zeros(module, jnp.shape(x)[:-1])
    return function(CellParams(**leaves), state, x)[0]


def _cast(leaves: dict[str, Any], x: jax.typing.ArrayLike, dtype: jax.typing.DTypeLike | None):
    """`(leaves, x)` in the dtype to compute in; as they are if it is None."""
    if dtype is None:
        return leaves, x
    return to(dtype, leaves), jnp.asarray(x, dtype)


def _refuse_strangers(x: jax.typing.ArrayLike, state: Any) -> None:
    """Refuse the calls that Flax makes and means otherwise: `cell(carry, x)`, and `Sequential`'s."""
    refuse_packed(x)
    if isinstance(x, tuple):
        raise TypeError(
            f"x: expected an array, got {type(x).__name__}. The call is module(x, state), where Flax's cells have "
            "cell(carry, x), and a state is (h, c), where Flax's carry is (c, h)."
        )
    if state is not None and _unpacked_by_sequential():
        raise ValueError(
            "state: expected it from you, got what Sequential unpacked from the layer before: its (output, state) "
            "would start this layer from that one's final state. Put `lambda output, state: output` between the two, "
            "or stack equal layers by num_layers; if the state is meant, call both in a module of your own."
        )


def _unpacked_by_sequential() -> bool:
    """Whether a `Sequential`, Linen's or NNX's, is past its first layer where it calls into Flax, JAX and us.

    It calls `layer(*outputs)` for any tuple, and nothing but its frame tells this from a user's own `layer(x, state)`.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("jaxlstm", "flax", "jax"):
        if frame.f_code.co_qualname == "Sequential.__call__":
            # The layer before's result, called `outputs` in Linen and `output` in NNX.
            given = frame.f_locals.get("outputs", frame.f_locals.get("output"))
            if given is not None:
                return True
        frame = frame.f_back
    return False
