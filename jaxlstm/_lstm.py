"""The public functions: check, choose, call."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxlstm import _check, implementations
from jaxlstm._cell import step
from jaxlstm._stack import stack
from jaxlstm._types import LSTMCellParams, LSTMParams, LSTMState
from jaxlstm._varying import varying_alike


def _to(dtype, tree):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


def _common_dtype(params, x) -> jnp.dtype:
    return jnp.result_type(x, *jax.tree.leaves(params))


def _accumulator(dtype) -> jnp.dtype:
    """The dtype of states and gates inside a run: no less than float32."""
    return jnp.promote_types(dtype, jnp.float32)


def lstm_cell(
    params: LSTMCellParams, state: LSTMState | tuple[jax.Array, jax.Array], x: jax.typing.ArrayLike
) -> tuple[LSTMState, jax.Array]:
    """One step of an LSTM; `jax.lax.scan(partial(lstm_cell, params), state, xs)` folds it over time.

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g = tanh   (W_ig x + b_ig + W_hg h + b_hg)        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g                                h' = o * tanh(c')        (then W_hr h' if projected)

    Args:
        params: the cell's parameters.
        state: `(h, c)`: h `[B, P]`, c `[B, H]`; unbatched h `[P]`, c `[H]`.
        x: `[B, I]`, or `[I]` unbatched.

    Returns:
        The new state and its h `[B, P]` once more, as the step's output; both in the common dtype of x and params.

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
    sizes = _check.check_cell_params(params)
    x = _check.check_x(x, "B, I", "I", sizes.input_size)
    leading = "B, " if x.ndim == 2 else ""
    state = _check.check_state(state, leading, x.shape[:-1], sizes.hidden_size, sizes.output_size)
    return _cell_step(params, state, x)


@jax.jit
def _cell_step(params: LSTMCellParams, state: LSTMState, x: jax.Array) -> tuple[LSTMState, jax.Array]:
    dtype = _common_dtype(params, x)
    accumulator = _accumulator(dtype)
    params = _to(dtype, params)
    after = step(params, _to(accumulator, state), x)
    after = _to(dtype, after)
    return after, after.h


def lstm(
    params: LSTMParams,
    x: jax.typing.ArrayLike,
    state: LSTMState | tuple[jax.Array, jax.Array] | None = None,
    *,
    lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
    resets: jax.typing.ArrayLike | None = None,
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
            its initial state on.
        resets: `bool[T, B]` (`[B, T]` with `batch_first`, `[T]` unbatched), True where a new sequence begins: the
            state is zero before that step; in the reverse direction it is zeroed after it.
        batch_first: whether x, output and resets have B before T.
        dropout: share of each layer's output but the last that is zeroed, the rest scaled by `1/(1-dropout)`.
        dropout_key: a `jax.random` key; None means inference, where nothing is dropped.
        implementation: None for the best that can serve on the platform that the program is compiled for, or a name:
            "xla" (any platform), "pallas" (TPU), "cudnn" (NVIDIA GPU; its gradient only, once and in reverse mode).
        checkpoint_every: k to keep only every k-th state for the backward pass (or somewhat more, down to every k/2-th,
            if that divides T) and recompute the steps between.
        unroll: steps that one iteration of the loop takes; None leaves it to the implementation.

    Returns:
        `(output, state)`: output `[T, B, D*P]` (axes as x's), the last layer's h at every step, and the final
        `LSTMState` in the initial one's layout. Both have the common dtype of x and params; float16 and bfloat16
        accumulate in float32 inside.

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
    sizes = _check.check_params(params)
    axes = "B, T, I" if batch_first else "T, B, I"
    x = _check.check_x(x, axes, "T, I", sizes.input_size)
    batched = x.ndim == 3
    time_axis = 1 if batched and batch_first else 0
    num_steps = x.shape[time_axis]
    if num_steps == 0:
        raise ValueError(f"x: expected T of at least 1, got T = 0 in {list(x.shape)}. Leave out empty sequences.")
    batch = (x.shape[1 - time_axis],) if batched else ()

    if state is not None:
        lead = (sizes.num_layers * sizes.num_directions, *batch)
        leading = "L*D, B, " if batched else "L*D, "
        state = _check.check_state(state, leading, lead, sizes.hidden_size, sizes.output_size)
    if lengths is not None:
        lengths = _check.check_lengths(lengths, batch, num_steps)
    if resets is not None:
        resets = _check.check_resets(resets, axes.removesuffix(", I") if batched else "T", x.shape[:-1])
    if checkpoint_every is not None:
        checkpoint_every = _check.check_int("checkpoint_every", checkpoint_every, 1)
    if unroll is not None:
        unroll = _check.check_int("unroll", unroll, 1)

    return _run(
        tuple(map(tuple, params)),
        x,
        state,
        lengths,
        resets,
        dropout_key,
        batch_first=batch_first,
        dropout=_check.check_dropout(dropout),
        implementation=implementations.check(implementation),
        checkpoint_every=checkpoint_every,
        unroll=unroll,
    )


# Compiled here, so that a call outside any jit, as in a notebook, does not trace and compile its loop anew.
@functools.partial(jax.jit, static_argnames=("batch_first", "dropout", "implementation", "checkpoint_every", "unroll"))
def _run(
    params: LSTMParams,
    x: jax.Array,
    state: LSTMState | None,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    dropout_key: jax.Array | None,
    *,
    batch_first: bool,
    dropout: float,
    implementation: str | None,
    checkpoint_every: int | None,
    unroll: int | None,
) -> tuple[jax.Array, LSTMState]:
    """Bring every layout and dtype to the one that `stack` knows, run it, and back."""
    sizes = _check.check_params(params)
    dtype = _common_dtype(params, x)
    accumulator = _accumulator(dtype)
    batched = x.ndim == 3
    if not batched:
        x, state, lengths, resets = (
            jax.tree.map(lambda a, axis=axis: jnp.expand_dims(a, axis), tree)
            for tree, axis in ((x, 1), (state, 1), (lengths, 0), (resets, 1))
        )
    elif batch_first:
        x, resets = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (x, resets))
    if state is None:
        lead = (sizes.num_layers * sizes.num_directions, x.shape[1])
        state = LSTMState(
            jnp.zeros((*lead, sizes.output_size), accumulator), jnp.zeros((*lead, sizes.hidden_size), accumulator)
        )

    y, final = stack(
        functools.partial(implementations.LAYERS[implementation], checkpoint_every=checkpoint_every, unroll=unroll),
        _to(dtype, params),
        x.astype(dtype),
        varying_alike(_to(accumulator, state), (params, x, lengths, resets)),
        lengths=lengths,
        resets=resets,
        dropout=dropout,
        dropout_key=dropout_key,
    )
    final = _to(dtype, final)
    if not batched:
        return jnp.squeeze(y, 1), LSTMState(*(jnp.squeeze(s, 1) for s in final))
    return (jnp.swapaxes(y, 0, 1) if batch_first else y), final
