"""What the Linen and the NNX modules share: which parameters they have, how these start, and how they are run.

A `module` here is either of them: both have their constructor's arguments as attributes.
"""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlstm._check import check_dropout, check_dtype, check_sizes
from jaxlstm._init import lstm_shapes, uniform
from jaxlstm._lstm import lstm, lstm_cell
from jaxlstm._names import unflatten
from jaxlstm._types import LSTMCellParams, LSTMState

State = LSTMState | tuple[jax.Array, jax.Array] | None


def check_lstm(module, param_dtype: jax.typing.DTypeLike) -> None:
    """Refuse what no LSTM can be built from."""
    check_dropout(module.dropout)
    check_sizes(
        input_size=module.input_size,
        hidden_size=module.hidden_size,
        num_layers=module.num_layers,
        proj_size=module.proj_size,
    )
    _check_dtypes(module, param_dtype)


def check_cell(module, param_dtype: jax.typing.DTypeLike) -> None:
    """Refuse what no cell can be built from."""
    check_sizes(input_size=module.input_size, hidden_size=module.hidden_size)
    _check_dtypes(module, param_dtype)


def _check_dtypes(module, param_dtype: jax.typing.DTypeLike) -> None:
    check_dtype("param_dtype", param_dtype)
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


def initializer(name: str, hidden_size: int, weight_init: Callable | None, bias_init: Callable | None) -> Callable:
    """How the parameter of this name starts: the user's way, or PyTorch's."""
    return (weight_init if name.startswith("weight") else bias_init) or uniform(hidden_size)


def _cast(leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, dtype: jax.typing.DTypeLike | None):
    """`(leaves, x)` in the dtype to compute in; as they are if it is None."""
    if dtype is None:
        return leaves, x
    return {name: leaf.astype(dtype) for name, leaf in leaves.items()}, jnp.asarray(x, dtype)


def run(
    module, leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, state: State, *, lengths, resets, dropout_key
) -> tuple[jax.Array, LSTMState]:
    """An LSTM module's call, from its leaves by name."""
    leaves, x = _cast(leaves, x, module.dtype)
    return lstm(
        unflatten(leaves, module.num_layers, 1 + module.bidirectional),
        x,
        state,
        lengths=lengths,
        resets=resets,
        batch_first=module.batch_first,
        dropout=module.dropout,
        dropout_key=dropout_key,
        implementation=module.implementation,
    )


def run_cell(module, leaves: dict[str, jax.Array], x: jax.typing.ArrayLike, state: State) -> LSTMState:
    """An LSTMCell module's call, from its leaves by name."""
    leaves, x = _cast(leaves, x, module.dtype)
    if state is None:
        zeros = jnp.zeros((*jnp.shape(x)[:-1], module.hidden_size), leaves["weight_hh"].dtype)
        state = LSTMState(zeros, zeros)
    return lstm_cell(LSTMCellParams(**leaves), state, x)[0]
