"""Parameters drawn as PyTorch draws them, and the shapes that every other way of making them follows."""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from jaxlstm._check import check_dtype, check_sizes
from jaxlstm._names import suffix
from jaxlstm._types import LSTMCellParams, LSTMParams


def cell_shapes(input_size: int, hidden_size: int, *, bias: bool = True, proj_size: int = 0) -> dict[str, tuple]:
    """The shape of each parameter that a cell of these sizes has, by its name in `LSTMCellParams`."""
    shapes: dict[str, tuple] = {
        "weight_ih": (4 * hidden_size, input_size),
        "weight_hh": (4 * hidden_size, proj_size or hidden_size),
    }
    if bias:
        shapes |= {"bias_ih": (4 * hidden_size,), "bias_hh": (4 * hidden_size,)}
    if proj_size:
        shapes |= {"weight_hr": (proj_size, hidden_size)}
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


def uniform(hidden_size: int) -> Callable[..., jax.Array]:
    """PyTorch's initializer `(key, shape, dtype)` of every leaf: U(-1/sqrt(H), 1/sqrt(H))."""
    bound = 1 / math.sqrt(hidden_size)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def init_lstm_cell(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    proj_size: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> LSTMCellParams:
    """Parameters of one cell, each leaf drawn from U(-1/sqrt(H), 1/sqrt(H)).

    Args:
        key: a `jax.random` key.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        bias: whether the cell has its two biases.
        proj_size: P, less than H; 0 for a cell without projection.
        dtype: floating dtype of the leaves.

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
    shapes = cell_shapes(input_size, hidden_size, bias=bias, proj_size=proj_size)
    draw = uniform(hidden_size)
    keys = jax.random.split(key, len(shapes))
    return LSTMCellParams(
        **{name: draw(k, shape, dtype) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
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
) -> LSTMParams:
    """Parameters of a stack, each leaf drawn from U(-1/sqrt(H), 1/sqrt(H)).

    Args:
        key: a `jax.random` key.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        num_layers: L, at least 1.
        bias: whether the cells have their two biases.
        bidirectional: whether each layer also runs in reverse (D = 2).
        proj_size: P, less than H; 0 for no projection.
        dtype: floating dtype of the leaves.

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
    directions = 2 if bidirectional else 1
    keys = jax.random.split(key, (num_layers, directions))
    inputs = layer_input_sizes(input_size, hidden_size, num_layers, bidirectional=bidirectional, proj_size=proj_size)
    return tuple(
        tuple(
            init_lstm_cell(keys[layer, d], size, hidden_size, bias=bias, proj_size=proj_size, dtype=dtype)
            for d in range(directions)
        )
        for layer, size in enumerate(inputs)
    )
