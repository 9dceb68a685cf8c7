"""PyTorch's LSTM: `jaxlstm.fold` of `jaxlstm.cells.LSTM`."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax

from jaxlstm import _check, _check_cell
from jaxlstm._call import common_dtype
from jaxlstm._fold import fold, one_step
from jaxlstm._types import Cell, CellParams, LSTMCellParams, LSTMParams, LSTMState
from jaxlstm.cells import LSTM

State = LSTMState | tuple[jax.Array, jax.Array]
StateT = TypeVar("StateT", bound=State)


def lstm_cell(params: LSTMCellParams, state: StateT, x: jax.typing.ArrayLike) -> tuple[StateT, jax.Array]:
    """One step of an LSTM; `jax.lax.scan(partial(lstm_cell, params), state, xs)` folds it over time.

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g = tanh   (W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g                                h' = o * tanh(c')        (then W_hr h' if projected)

    Args:
        params: the cell's parameters.
        state: `(h, c)`: h `[B, P]`, c `[B, H]`; unbatched h `[P]`, c `[H]`.
        x: `[B, I]`, or `[I]` unbatched.

    Returns:
        The new state, in the container of the one given, and its h `[B, P]` once more, as the step's output; both in
        the common dtype of x and params.

    Raises:
        ValueError: a shape that does not fit.
        TypeError: an argument of the wrong kind or dtype.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=5)
    >>> state = jaxlstm.LSTMState(h=jnp.zeros((2, 5)), c=jnp.zeros((2, 5)))
    >>> state, y = jaxlstm.lstm_cell(params, state, jnp.ones((2, 3)))
    >>> y.shape
    (2, 5)
    """
    if isinstance(x, tuple | list) and not isinstance(state, tuple | list):
        mend = "The order is that of jax.lax.scan: lstm_cell(params, (h, c), x)."
        _check.refuse("state, x", "the state before x", f"x = {type(x).__name__}", mend, TypeError)
    after = one_step(LSTM, params, state, x)
    return after, after[0]


def zero_state(
    params: LSTMParams | LSTMCellParams,
    batch_size: int | None = None,
    dtype: jax.typing.DTypeLike | None = None,
    *,
    cell: Cell = LSTM,
) -> Any:
    """The state to start from, zeros, of a stack or a cell of these parameters.

    Args:
        params: a stack's, or one cell's.
        batch_size: B; None for the state of unbatched x.
        dtype: of the state; None for the parameters'. A loop carries the common one of x and params.
        cell: what the parameters are of.

    Returns:
        `LSTMState`, h `[L*D, B, P]`, c `[L*D, B, H]`; of one cell h `[B, P]`, c `[B, H]`; without B for None. Of
        another cell its own type of state.

    Raises:
        ValueError: a batch size below 0, or parameters that don't fit together.
        TypeError: an argument of the wrong kind.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5, num_layers=2)
    >>> h_0, c_0 = jaxlstm.zero_state(params, batch_size=4)
    >>> h_0.shape
    (2, 4, 5)
    """
    if isinstance(params, CellParams):
        sizes, lead = _check_cell.check_cell_params(params, cell=cell), ()
    else:
        sizes = _check_cell.check_params(params, cell)
        lead = (sizes.num_layers * sizes.num_directions,)
    if batch_size is not None:
        lead = (*lead, _check.check_int("batch_size", batch_size, 0))
    if dtype is None:
        dtype = common_dtype(params)
    _check.check_dtype("dtype", dtype)
    return _check_cell.default_state(cell, lead, sizes, dtype)


def lstm(
    params: LSTMParams,
    x: jax.typing.ArrayLike,
    state: State | None = None,
    *,
    lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
    resets: jax.typing.ArrayLike | None = None,
    reset_state: State | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    implementation: str | None = None,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, LSTMState]:
    """Run a stack of LSTM layers over a sequence: `torch.nn.LSTM` as a pure function.

    Each layer and direction folds `lstm_cell` over time; layer l > 0 reads the concatenated directions of the layer
    below. Differentiable to any order in forward and reverse mode.

    Args:
        params: `params[layer][direction]`, all of one H and P; they alone tell L, D, I, H, P and whether there is bias.
        x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched; T at least 1.
        state: initial `(h, c)`, h `[L*D, B, P]`, c `[L*D, B, H]` (without B unbatched), in the order l0 forward,
            l0 reverse, l1 forward, ...; zeros if None. `batch_first` does not move it.
        lengths: `int[B]` (`int[]` unbatched), each row's count of valid steps, 0 to T: PyTorch's packed sequences
            without sorting. Output is 0 past them, the final state is that of the last valid step, the reverse
            direction starts there, and nothing at padding reaches an output or a gradient. A row of length 0 hands
            its initial state on. Values are looked at where they are known; those traced by `jit` can't be, and are
            clipped to [0, T].
        resets: `bool[T, B]` (`[B, T]` with `batch_first`, `[T]` unbatched), True where a new sequence begins: the
            state is zero before that step; in the reverse direction it is zeroed after it.
        reset_state: `(h, c)` that takes the place of zero there: one for all rows, h `[L*D, P]`, c `[L*D, H]`, or one
            for each, as `state`.
        batch_first: whether x, output and resets have B before T.
        dropout: share of each layer's output but the last that is zeroed, the rest scaled by `1/(1-dropout)`.
        dropout_key: a `jax.random` key; None means inference, where nothing is dropped.
        implementation: None for the best that can serve on the platform that the program is compiled for, or a name:
            "xla" (any platform), "native" (CPU), "pallas" (TPU), "cudnn" (NVIDIA GPU; its gradient only, once and in
            reverse mode).
        checkpoint_every: k to keep only every k-th state for the backward pass (or somewhat more, down to every k/2-th,
            if that divides T) and recompute the steps between.
        unroll: steps that one iteration of the loop takes; None leaves it to the implementation.

    Returns:
        `(output, state)`: output `[T, B, D*P]` (axes as x's), the last layer's h at every step, and the final
        `LSTMState` (a plain tuple if the initial one is) in the initial one's layout. Both have the common dtype of x
        and params; float16 and bfloat16 accumulate in float32 inside.

    Raises:
        ValueError: a shape or value that does not fit.
        TypeError: an argument of the wrong kind or dtype.
        NotImplementedError: a named implementation that can't do what is asked.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5, num_layers=2, bidirectional=True)
    >>> output, (h_n, c_n) = jaxlstm.lstm(params, jnp.ones((7, 2, 3)), lengths=jnp.array([7, 4]))
    >>> output.shape, h_n.shape
    ((7, 2, 10), (4, 2, 5))
    """
    return fold(
        LSTM,
        params,
        x,
        state,
        lengths=lengths,
        resets=resets,
        reset_state=reset_state,
        batch_first=batch_first,
        dropout=dropout,
        dropout_key=dropout_key,
        implementation=implementation,
        checkpoint_every=checkpoint_every,
        unroll=unroll,
    )
