"""Parameters drawn as PyTorch draws them, and the shapes that every other way of making them follows."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxlstm._check import check_dtype, check_flag, check_sizes
from jaxlstm._names import suffix
from jaxlstm._types import LSTMCellParams, LSTMParams

Initializer = Callable[..., Any]  # (key, shape, dtype) to an array, or to a box around one


class Shape(tuple):
    """A parameter's shape that says how many gates lie along its first axis: an initializer sees nothing else.

    `[4H, I]` is four gates of `[H, I]`, and W_hr's `[P, H]` is none of them; sizes alone don't tell which it is.
    """

    num_gates: int

    def __new__(cls, sizes: Iterable[int], num_gates: int = 4):
        """The shape `sizes`, whose rows are `num_gates` gates."""
        shape = super().__new__(cls, sizes)
        shape.num_gates = num_gates
        return shape


def cell_shapes(input_size: int, hidden_size: int, *, bias: bool = True, proj_size: int = 0) -> dict[str, tuple]:
    """The shape of each parameter that a cell of these sizes has, by its name in `LSTMCellParams`."""
    rows = 4 * hidden_size
    shapes: dict[str, tuple] = {
        "weight_ih": Shape((rows, input_size)),
        "weight_hh": Shape((rows, proj_size or hidden_size)),
    }
    if bias:
        shapes |= {"bias_ih": Shape((rows,)), "bias_hh": Shape((rows,))}
    if proj_size:
        shapes |= {"weight_hr": Shape((proj_size, hidden_size), num_gates=1)}
    return shapes


def layer_input_sizes(
    input_size: int, hidden_size: int, num_layers: int, *, bidirectional: bool = False, proj_size: int = 0
) -> Iterator[int]:
    """The input size of each layer: I for the first, D*P for those above."""
    yield input_size
    for _ in range(num_layers - 1):
        yield (1 + bidirectional) * (proj_size or hidden_size)


def lstm_shapes(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    proj_size: int = 0,
) -> dict[str, tuple]:
    """The shape of each parameter that a stack of these sizes has, by PyTorch's name."""
    inputs = layer_input_sizes(input_size, hidden_size, num_layers, bidirectional=bidirectional, proj_size=proj_size)
    return {
        name + suffix(layer, direction): shape
        for layer, size in enumerate(inputs)
        for direction in range(1 + bidirectional)
        for name, shape in cell_shapes(size, hidden_size, bias=bias, proj_size=proj_size).items()
    }


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
    check_sizes(input_size=input_size, hidden_size=hidden_size, proj_size=proj_size)
    check_dtype("dtype", dtype)
    shapes = cell_shapes(input_size, hidden_size, bias=check_flag("bias", bias), proj_size=proj_size)
    starts = (weight_init, bias_init, weight_hh_init, bias_hh_init)
    keys = jax.random.split(key, len(shapes))
    return LSTMCellParams(
        **{
            name: initializer(name, hidden_size, *starts)(k, shape, dtype)
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
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
    check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers, proj_size=proj_size)
    check_dtype("dtype", dtype)
    bidirectional = check_flag("bidirectional", bidirectional)
    draw = functools.partial(
        init_lstm_cell,
        hidden_size=hidden_size,
        bias=bias,
        proj_size=proj_size,
        dtype=dtype,
        weight_init=weight_init,
        bias_init=bias_init,
        weight_hh_init=weight_hh_init,
        bias_hh_init=bias_hh_init,
    )
    inputs = layer_input_sizes(input_size, hidden_size, num_layers, bidirectional=bidirectional, proj_size=proj_size)
    keys = jax.random.split(key, (num_layers, 1 + bidirectional))
    return tuple(
        tuple(draw(keys[layer, direction], size) for direction in range(1 + bidirectional))
        for layer, size in enumerate(inputs)
    )
