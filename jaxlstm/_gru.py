"""PyTorch's GRU: `jaxlstm.fold` of `jaxlstm.cells.GRU`, with a state that is h alone."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxlstm._check import check_init_key, check_sizes
from jaxlstm._fold import fold, one_step
from jaxlstm._init import Initializer, init_cell, init_fold
from jaxlstm._types import CellParams, HiddenState, LSTMParams
from jaxlstm.cells import GRU


def gru_cell(params: CellParams, h: jax.typing.ArrayLike, x: jax.typing.ArrayLike) -> tuple[jax.Array, jax.Array]:
    """One step of a GRU; `jax.lax.scan(partial(gru_cell, params), h, xs)` folds it over time.

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)        h' = (1 - z) * n + z * h

    Args:
        params: the cell's parameters, gates along `3H` in the order r, z, n.
        h: `[B, H]`, or `[H]` unbatched.
        x: `[B, I]`, or `[I]` unbatched.

    Returns:
        The new h, and once more as the step's output; in the common dtype of x and params.

    Raises:
        ValueError: a shape that does not fit.
        TypeError: an argument of the wrong kind or dtype.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_gru_cell(jax.random.key(0), input_size=3, hidden_size=5)
    >>> h, y = jaxlstm.gru_cell(params, jnp.zeros((2, 5)), jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    (after,) = one_step(GRU, params, _state(h), x)
    return after, after


def gru(
    params: LSTMParams,
    x: jax.typing.ArrayLike,
    state: jax.typing.ArrayLike | None = None,
    *,
    lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
    resets: jax.typing.ArrayLike | None = None,
    reset_state: jax.typing.ArrayLike | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    implementation: str | None = None,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Run a stack of GRU layers over a sequence: `torch.nn.GRU` as a pure function.

    Args:
        params: `params[layer][direction]`, all of one H, as `init_gru` makes them.
        x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched; T at least 1.
        state: initial h `[L*D, B, H]` (without B unbatched), in the order l0 forward, l0 reverse, l1 forward, ...;
            zeros if None. `batch_first` does not move it.
        lengths: `int[B]`, each row's count of valid steps: PyTorch's packed sequences, as in `jaxlstm.lstm`.
        resets: `bool[T, B]` (`[B, T]` with `batch_first`, `[T]` unbatched), True where a new sequence begins.
        reset_state: h that takes the place of zero there: `[L*D, H]` for all rows, or as `state`.
        batch_first: whether x, output and resets have B before T.
        dropout: share of each layer's output but the last that is zeroed, the rest scaled by `1/(1-dropout)`.
        dropout_key: a `jax.random` key; None means inference, where nothing is dropped.
        implementation: None, "native" or "xla".
        checkpoint_every: k to keep only every k-th state for the backward pass, as in `jaxlstm.lstm`.
        unroll: steps that one iteration of the loop takes; None leaves it to the implementation.

    Returns:
        `(output, h_n)`: output `[T, B, D*H]` (axes as x's), and the final h in the initial one's layout. Both have the
        common dtype of x and params.

    Raises:
        ValueError: a shape or value that does not fit.
        TypeError: an argument of the wrong kind or dtype.
        NotImplementedError: an implementation that serves LSTMs only.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_gru(jax.random.key(0), input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    >>> output, h_n = jaxlstm.gru(params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 4]))
    >>> output.shape, h_n.shape
    ((7, 2, 10), (4, 2, 5))
    """
    output, (h_n,) = fold(
        GRU,
        params,
        x,
        None if state is None else _state(state),
        lengths=lengths,
        resets=resets,
        reset_state=None if reset_state is None else _state(reset_state),
        batch_first=batch_first,
        dropout=dropout,
        dropout_key=dropout_key,
        implementation=implementation,
        checkpoint_every=checkpoint_every,
        unroll=unroll,
    )
    return output, h_n


def init_gru_cell(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_hh_init: Initializer | None = None,
) -> CellParams:
    """Parameters of one GRU cell, each leaf drawn from U(-1/sqrt(H), 1/sqrt(H)) unless told otherwise.

    Args:
        key: a `jax.random` key.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        bias: whether the cell has its two biases.
        dtype: floating dtype of the leaves.
        weight_init: as `init_lstm_cell`'s, and so the next three; gates are r, z, n.
        bias_init: of both biases.
        weight_hh_init: of weight_hh alone.
        bias_hh_init: of bias_hh alone.

    Returns:
        `CellParams`, weights `[3H, I]` and `[3H, H]`.

    Raises:
        ValueError: a size out of range.
        TypeError: a size that is not an integer, or a dtype that is not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html

    >>> import jax, jaxlstm
    >>> jaxlstm.init_gru_cell(jax.random.key(0), input_size=3, hidden_size=5).weight_ih.shape
    (15, 3)
    """
    check_init_key(key)
    check_sizes(input_size=input_size, hidden_size=hidden_size)
    starts = (weight_init, bias_init, weight_hh_init, bias_hh_init)
    return init_cell(key, GRU, input_size, hidden_size, starts, bias=bias, proj_size=0, dtype=dtype)


def init_gru(
    key: jax.Array,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    dtype: jax.typing.DTypeLike = jnp.float32,
    weight_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    weight_hh_init: Initializer | None = None,
    bias_hh_init: Initializer | None = None,
) -> LSTMParams:
    """Parameters of a stack of GRUs, each leaf drawn from U(-1/sqrt(H), 1/sqrt(H)) unless told otherwise.

    Args:
        key: a `jax.random` key.
        input_size: I, at least 1.
        hidden_size: H, at least 1.
        num_layers: L, at least 1.
        bias: whether the cells have their two biases.
        bidirectional: whether each layer also runs in reverse (D = 2).
        dtype: floating dtype of the leaves.
        weight_init: as `init_lstm_cell`'s, and so the next three; gates are r, z, n.
        bias_init: of both biases.
        weight_hh_init: of weight_hh alone.
        bias_hh_init: of bias_hh alone.

    Returns:
        `params[layer][direction]`, each a `CellParams`.

    Raises:
        ValueError: a size out of range.
        TypeError: a size that is not an integer, or a dtype that is not floating.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> import jax, jaxlstm
    >>> jaxlstm.init_gru(jax.random.key(0), 3, 5, num_layers=2, bidirectional=True)[1][0].weight_ih.shape
    (15, 10)
    """
    return init_fold(
        key,
        GRU,
        input_size,
        hidden_size,
        num_layers,
        bias=bias,
        bidirectional=bidirectional,
        dtype=dtype,
        weight_init=weight_init,
        bias_init=bias_init,
        weight_hh_init=weight_hh_init,
        bias_hh_init=bias_hh_init,
    )


def _state(h: jax.typing.ArrayLike) -> tuple:
    """A state of the cell's from h; one that is a state already, an LSTM's say, is looked at by the checks."""
    return h if isinstance(h, tuple) else HiddenState(h)  # pyright: ignore[reportArgumentType]
