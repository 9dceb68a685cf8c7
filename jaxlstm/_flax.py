"""What the Linen and the NNX modules share: which parameters they have, how these start, and how they are run.

A `module` here is either of them: both have their constructor's arguments as attributes.
"""

import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm._check import check_dropout, check_dtype, check_flag, check_int, check_sizes
from jaxlstm._init import lstm_shapes
from jaxlstm._lstm import lstm, lstm_cell
from jaxlstm._names import unflatten
from jaxlstm._types import LSTMCellParams, LSTMState

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


def check_lstm(module) -> None:
    """Refuse what no LSTM can be built from, and make Python's own numbers of numpy's."""
    module.dropout = check_dropout(module.dropout)
    for name in ("checkpoint_every", "unroll"):
        if getattr(module, name) is not None:
            setattr(module, name, check_int(name, getattr(module, name), 1))
    _settle(module, ("input_size", "hidden_size", "num_layers", "proj_size"), ("bias", "batch_first", "bidirectional"))


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
    """The shape of each of an LSTM module's parameters, by PyTorch's name."""
    return lstm_shapes(
        module.input_size,
        module.hidden_size,
        module.num_layers,
        bias=module.bias,
        bidirectional=module.bidirectional,
        proj_size=module.proj_size,
    )


def zero_state(module, batch_size: int | None) -> LSTMState:
    """The state that an LSTM module starts from, in the dtype that it gives back."""
    stack = module.num_layers * (1 + module.bidirectional)
    return _zeros(module, (stack, *_batch(batch_size)), module.proj_size)


def zero_cell_state(module, batch_size: int | None) -> LSTMState:
    """The state that a cell module starts from, in the dtype that it gives back."""
    return _zeros(module, _batch(batch_size))


def _batch(batch_size: int | None) -> tuple[int, ...]:
    return () if batch_size is None else (check_int("batch_size", batch_size, 0),)


def _zeros(module, lead: tuple[int, ...], proj_size: int = 0) -> LSTMState:
    dtype = module.param_dtype if module.dtype is None else module.dtype
    return LSTMState(
        jnp.zeros((*lead, proj_size or module.hidden_size), dtype), jnp.zeros((*lead, module.hidden_size), dtype)
    )


def run(
    module, leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, state: State, **options
) -> tuple[jax.Array, LSTMState]:
    """An LSTM module's call, from its leaves by name."""
    _refuse_strangers(x, state)
    leaves, x = _cast(leaves, x, module.dtype)
    return lstm(
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


def run_cell(module, leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, state: State) -> Any:
    """An LSTMCell module's call, from its leaves by name."""
    _refuse_strangers(x, state)
    leaves, x = _cast(leaves, x, module.dtype)
    if state is None:
        state = _zeros(module, jnp.shape(x)[:-1])
    return lstm_cell(LSTMCellParams(**leaves), state, x)[0]


def _cast(leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, dtype: jax.typing.DTypeLike | None):
    """`(leaves, x)` in the dtype to compute in; as they are if it is None."""
    if dtype is None:
        return leaves, x
    return {name: leaf.astype(dtype) for name, leaf in leaves.items()}, jnp.asarray(x, dtype)


def _refuse_strangers(x: jax.typing.ArrayLike, state: State) -> None:
    """Refuse the calls that Flax makes and means otherwise: `cell(carry, x)`, and `Sequential`'s."""
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
