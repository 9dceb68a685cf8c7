"""Parameters drawn as PyTorch draws them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm._check import check_dtype, check_flag, check_init_key, check_sizes
from jaxlstm._check_cell import check_cell
from jaxlstm._shapes import cell_shapes, layer_input_sizes
from jaxlstm._types import Cell, CellParams, LSTMCellParams, LSTMParams
from jaxlstm.cells import LSTM

Initializer = Callable[..., Any]  # (key, shape, dtype) to an array, or to a box around one


def uniform(hidden_size: int) -> Initializer:
    """PyTorch's initializer of every leaf: U(-1/sqrt(H), 1/sqrt(H))."""
    bound = 1 / math.sqrt(hidden_size)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def initializer(
    name: str,
    hidden_size: int,
    weight_init: Initializer | None,
    bias_init: Initializer | None,
    weight_hh_init: Initializer | None,
    bias_hh_init: Initializer | None,
) -> Initializer:
    """How the parameter of this name starts: the user's way, or PyTorch's."""
    general, states = (weight_init, weight_hh_init) if name.startswith("weight") else (bias_init, bias_hh_init)
    return (states if "_hh" in name else None) or general or uniform(hidden_size)


def init_lstm_cell(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    proj_size: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_hh_init: Initializer | None = None,
) -> LSTMCellParams:
    """Parameters of one cell, each leaf drawn from U(-1/sqrt(H), 1/sqrt(H)) unless told otherwise.

    Args:
        key: a `jax.random` key.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        bias: whether the cell has its two biases.
        proj_size: P, less than H; 0 for a cell without projection.
        dtype: floating dtype of the leaves.
        weight_init: initializer `(key, shape, dtype)` of the weights; None for PyTorch's U(-1/sqrt(H), 1/sqrt(H)).
            Gates lie along the first axis, so one of JAX's own belongs into `jaxlstm.initializers.per_gate`.
        bias_init: the same for both biases, which are added: `jaxlstm.initializers.forget_bias`.
        weight_hh_init: the same for weight_hh alone; None for `weight_init`.
        bias_hh_init: the same for bias_hh alone; None for `bias_init`.

    Returns:
        `LSTMCellParams`.

    Raises:
        ValueError: a size out of range.
        TypeError: a size that is not an integer, or a dtype that is not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=5, proj_size=2)
    >>> params.weight_hh.shape, params.weight_hr.shape
    ((20, 2), (2, 5))
    """
    check_init_key(key)
    check_sizes(input_size=input_size, hidden_size=hidden_size, proj_size=proj_size)
    starts = (weight_init, bias_init, weight_hh_init, bias_hh_init)
    return init_cell(key, LSTM, input_size, hidden_size, starts, bias=bias, proj_size=proj_size, dtype=dtype)


def init_cell(
    key: jax.Array, cell: Cell, input_size: int, hidden_size: int, starts: tuple, *, bias: bool, proj_size: int, dtype
) -> CellParams:
    """One cell's parameters of checked sizes; `starts` are the four initializers, in the order of the arguments."""
    check_dtype("dtype", dtype)
    bias = check_flag("bias", bias)
    shapes = cell_shapes(input_size, hidden_size, cell.num_gates, bias=bias, proj_size=proj_size)
    keys = jax.random.split(key, len(shapes))
    extra = None
    if cell.init_extra is not None:
        extra = cell.init_extra(jax.random.fold_in(key, len(shapes)), hidden_size, dtype)
    return CellParams(
        **{
            name: initializer(name, hidden_size, *starts)(k, shape, dtype)
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        },
        extra=extra,
    )


def init_lstm(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_hh_init: Initializer | None = None,
) -> LSTMParams:
    """Parameters of a stack, each leaf drawn from U(-1/sqrt(H), 1/sqrt(H)) unless told otherwise.

    Args:
        key: a `jax.random` key.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        num_layers: L, at least 1.
        bias: whether the cells have their two biases.
        bidirectional: whether each layer also runs in reverse (D = 2).
        proj_size: P, less than H; 0 for no projection.
        dtype: floating dtype of the leaves.
        weight_init: as `init_lstm_cell`'s, and so the next three.
        bias_init: of both biases.
        weight_hh_init: of weight_hh alone.
        bias_hh_init: of bias_hh alone.

    Returns:
        `LSTMParams`: `params[layer][direction]` is an `LSTMCellParams`.

    Raises:
        ValueError: a size out of range.
        TypeError: a size that is not an integer, or a dtype that is not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), 3, 5, num_layers=2, bidirectional=True)
    >>> params[1][0].weight_ih.shape  # layer 1 reads both directions of layer 0
    (20, 10)
    """
    return init_fold(
        key,
        LSTM,
        input_size,
        hidden_size,
        num_layers,
        bias=bias,
        bidirectional=bidirectional,
        proj_size=proj_size,
        dtype=dtype,
        weight_init=weight_init,
        bias_init=bias_init,
        weight_hh_init=weight_hh_init,
        bias_hh_init=bias_hh_init,
    )


def init_fold(
    key: jax.Array,
    cell: Cell,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_hh_init: Initializer | None = None,
) -> LSTMParams:
    """Parameters of a stack of any cell, drawn as `init_lstm` draws an LSTM's, and `extra` by `cell.init_extra`.

    Args:
        key: a `jax.random` key.
        cell: whose parameters they are.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        num_layers: L, at least 1.
        bias: whether the cells have their two biases.
        bidirectional: whether each layer also runs in reverse (D = 2).
        proj_size: P, less than H; 0 for no projection.
        dtype: floating dtype of the leaves.
        weight_init: as `init_lstm_cell`'s, and so the next three.
        bias_init: of both biases.
        weight_hh_init: of weight_hh alone.
        bias_hh_init: of bias_hh alone.

    Returns:
        `params[layer][direction]`, each a `CellParams`, weights `[G*H, I]` and `[G*H, P]`.

    Raises:
        ValueError: a size out of range.
        TypeError: what is no cell, a size that is not an integer, or a dtype that is not floating.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_fold(jax.random.key(0), jaxlstm.cells.lstm(peephole=True), 3, 5)
    >>> params[0][0].extra["peephole_i"].shape
    (5,)
    """
    check_cell(cell)
    check_init_key(key)
    check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, proj_size=proj_size)
    bidirectional = check_flag("bidirectional", bidirectional)
    starts = (weight_init, bias_init, weight_hh_init, bias_hh_init)
    inputs = layer_input_sizes(input_size, hidden_size, num_layers, bidirectional=bidirectional, proj_size=proj_size)
    keys = jax.random.split(key, (num_layers, 1 + bidirectional))
    return tuple(
        tuple(
            init_cell(
                keys[layer, direction], cell, size, hidden_size, starts, bias=bias, proj_size=proj_size, dtype=dtype
            )
            for direction in range(1 + bidirectional)
        )
        for layer, size in enumerate(inputs)
    )
