"""Any cell, folded over time: the public functions that all others are names for. Check, choose, call."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jaxlstm import _check, _check_cell
from jaxlstm._call import Arrays, Settings, accumulator, checked, common_dtype, run, to
from jaxlstm._mesh import on_auto_axes, spec_of
from jaxlstm._step import step
from jaxlstm._types import Cell, CellParams, LSTMParams
from jaxlstm.implementations._choice import by_name


def fold(
    cell: Cell,
    params: LSTMParams,
    x: jax.typing.ArrayLike,
    state: Any = None,
    *,
    lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
    resets: jax.typing.ArrayLike | None = None,
    reset_state: Any | None = None,
    batch_first: bool = False,
    dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    implementation: str | None = None,
    checkpoint_every: int | None = None,
    unroll: int | None = None,
) -> tuple[jax.Array, Any]:
    """Run a stack of layers of any recurrent cell over a sequence: what `jaxlstm.lstm` does, for a rule of one's own.

        x_sums = W_ih x + b_ih        h_sums = W_hh h + b_hh        state, y = rule(extra, state, x_sums, h_sums)

    Each layer and direction folds this over time, mapped over the rows of the batch; layer l > 0 reads the concatenated
    directions of the layer below. Differentiable to any order in forward and reverse mode, if the rule is.

    Args:
        cell: the rule and what goes with it; static under `jit`.
        params: `params[layer][direction]`, `CellParams` of one H and P, as `init_fold` makes them.
        x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched; T at least 1.
        state: of type `cell.state` or a plain tuple of its fields: h `[L*D, B, P]`, others `[L*D, B, H]`, or
            `[L*D, B, ...]` of any shape (without B unbatched); zeros if None.
        lengths: `int[B]`, each row's count of valid steps, as in `jaxlstm.lstm`.
        resets: `bool[T, B]` (`[B, T]` with `batch_first`, `[T]` unbatched), True where a new sequence begins, as in
            `jaxlstm.lstm`. A `jax.random` key in the state, which has no zero, goes on.
        reset_state: what takes the place of zero there, as `state`, or without B for all rows.
        batch_first: whether x, output and resets have B before T.
        dropout: share of each layer's output but the last that is zeroed, the rest scaled by `1/(1-dropout)`.
        dropout_key: a `jax.random` key; None means inference, where nothing is dropped.
        implementation: None, "xla", for `cells.GRU` also "native", and for `cells.LSTM` any of `jaxlstm.lstm`'s.
        checkpoint_every: k to keep only every k-th state for the backward pass, as in `jaxlstm.lstm`.
        unroll: steps that one iteration of the loop takes; None leaves it to the implementation.

    Returns:
        `(output, state)`: output `[T, B, D*P]` (axes as x's), and the final state in the initial one's layout and
        container. Both have the common dtype of x and params; the rule computes in no less than float32.

    Raises:
        ValueError: a shape or value that does not fit, or a rule that gives back another shape than it got.
        TypeError: an argument of the wrong kind or dtype, or a rule that gives back another structure.
        NotImplementedError: a named implementation that can't do what is asked.

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> from jaxlstm import LSTMState
    >>> def lstm(extra, state, x_sums, h_sums):
    ...     i, f, g, o = x_sums + h_sums
    ...     c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    ...     h = jax.nn.sigmoid(o) * jnp.tanh(c)
    ...     return LSTMState(h, c), h
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5, bidirectional=True)
    >>> output, (h_n, c_n) = jaxlstm.fold(jaxlstm.Cell(lstm, num_gates=4), params, jnp.ones((7, 2, 3)))
    >>> bool(jnp.allclose(output, jaxlstm.lstm(params, jnp.ones((7, 2, 3)))[0], atol=1e-6))
    True
    """
    arrays, settings = checked(
        cell,
        params,
        x,
        state,
        lengths=lengths,
        resets=resets,
        reset_state=reset_state,
        batch_first=batch_first,
        dropout=dropout,
        dropout_key=dropout_key,
        checkpoint_every=checkpoint_every,
        unroll=unroll,
    )
    by_name(implementation)
    y, final = _run(arrays, settings, implementation)
    return y, like_given(state, final)


# Compiled here, so that a call outside any jit, as in a notebook, does not trace and compile its loop anew.
@functools.partial(jax.jit, static_argnums=(1, 2))
def _run(arrays: Arrays, settings: Settings, implementation: str | None) -> tuple[jax.Array, Any]:
    return run(by_name(implementation), arrays, settings)


def like_given(given: Any, state: Any) -> Any:
    """The state in the container that one was given in, so that a loop can carry it."""
    return state if given is None or isinstance(given, type(state)) else tuple(state)


def one_step(cell: Cell, params: CellParams, state: Any, x: jax.typing.ArrayLike) -> Any:
    """The state after one step of x `[B, I]`, or `[I]`, in the container of the one given."""
    sizes = _check_cell.check_cell_params(params, cell=cell)
    _check.refuse_packed(x)
    x = _check.check_x(x, "B, I", "I", sizes.input_size)
    before = _check_cell.check_state(state, "B, " if x.ndim == 2 else "", x.shape[:-1], sizes, cell)
    return like_given(state, _step(cell, params, before, x))


@functools.partial(jax.jit, static_argnums=0)
def _step(cell: Cell, params: CellParams, state: Any, x: jax.Array) -> Any:
    def run(params, state, x):
        dtype = common_dtype((params, x))
        inside = accumulator(dtype)
        params = to(dtype, params)._replace(extra=to(inside, params.extra))
        return to(dtype, step(cell, params, to(inside, state), x)[0])

    rows = P(*spec_of(x)[:-1])
    return on_auto_axes(run, jax.tree.map(lambda _: rows, state), params, state, x)
