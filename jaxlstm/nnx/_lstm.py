"""NNX's LSTM and LSTMCell."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlstm import _flax, cells
from jaxlstm._init import Initializer
from jaxlstm._lstm import lstm, lstm_cell
from jaxlstm._types import LSTMState
from jaxlstm.nnx._base import OneCell, Stack, run, run_cell, set_up, set_up_cell


class LSTM(Stack):
    """`torch.nn.LSTM` as an NNX module: `lstm(x, state=None, ...) -> (output, LSTMState)`.

    Its parameters are flat `nnx.Param` attributes under PyTorch's names (`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`,
    `bias_hh_l0`, `weight_hr_l0`, then `_l0_reverse`, `_l1`, ...). As in PyTorch and `nnx.Dropout`, a new module is in
    training mode: `lstm.eval()` turns dropout off, `lstm.train()` on.
    `jaxlstm.from_named_parameters(nnx.state(lstm, nnx.Param))` makes `LSTMParams` of them, under `jit` too.

    A state is `(h, c)`, where Flax's carry is `(c, h)`. In `nnx.Sequential` put `lambda output, state: output` behind
    it. `nnx.tabulate` fails on any NamedTuple within a tuple (flax/nnx/summary.py, `_unflatten_to_simple_structure`);
    given a plain tuple it gets one back: `nnx.tabulate(lstm, x, tuple(lstm.zero_state(B)))`.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the cells have their two biases.
        batch_first: whether x, output and resets have B before T; states never move.
        dropout: share of each layer's output but the last that is zeroed in training mode.
        bidirectional: whether each layer also runs in reverse (D = 2).
        proj_size: P, less than H; 0 for no projection.
        dtype: what x and parameters are cast to before the run, and so the dtype of the results; None for the common
            dtype of x and parameters.
        param_dtype: dtype of the parameters.
        implementation: None for the best on the platform compiled for, or a name, as in `jaxlstm.lstm`.
        weight_init: initializer `(key, shape, dtype)` of each weight, partitioned ones (`nnx.with_partitioning`) too;
            None for PyTorch's U(-1/sqrt(H), 1/sqrt(H)). It gets `[4H, I]`, of which a plain `lecun_normal()` or
            `orthogonal()` mistakes the axes: `jaxlstm.initializers.per_gate(lecun_normal())`.
        bias_init: the same for both biases, which are added, so that `constant(1)` counts twice:
            `jaxlstm.initializers.forget_bias(1.0)`.
        weight_hh_init: the same for W_hh alone; None for `weight_init`.
        bias_hh_init: the same for b_hh alone; None for `bias_init`.
        checkpoint_every: k to keep only every k-th state for the backward pass, as in `jaxlstm.lstm`.
        unroll: steps that one iteration of the loop takes; None leaves it to the implementation.
        rngs: `nnx.Rngs` with the stream `params`, and `dropout` if dropout acts anywhere.

    Raises:
        ValueError: a size or rate out of range.
        TypeError: one of the wrong kind.

    Warns:
        UserWarning: dropout on a single layer, where it has nowhere to act.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> import jax.numpy as jnp, jaxlstm.nnx
    >>> from flax import nnx
    >>> lstm = jaxlstm.nnx.LSTM(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, rngs=nnx.Rngs(0))
    >>> lstm.weight_ih_l1_reverse.shape
    (20, 10)
    >>> output, (h_n, c_n) = lstm(jnp.ones((7, 4, 3)), lengths=jnp.array([7, 5, 2, 7]))
    >>> output.shape, h_n.shape
    ((7, 4, 10), (4, 4, 5))
    """

    cell = cells.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        implementation: str | None = None,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        weight_hh_init: Initializer | None = None,
        bias_hh_init: Initializer | None = None,
        checkpoint_every: int | None = None,
        unroll: int | None = None,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        set_up(
            self,
            rngs,
            weight_init,
            bias_init,
            weight_hh_init,
            bias_hh_init,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            dtype=dtype,
            param_dtype=param_dtype,
            implementation=implementation,
            checkpoint_every=checkpoint_every,
            unroll=unroll,
        )

    def __call__(
        self,
        x: jax.typing.ArrayLike,
        state: _flax.State = None,
        *,
        lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
        resets: jax.typing.ArrayLike | None = None,
        reset_state: _flax.State = None,
    ) -> tuple[jax.Array, LSTMState]:
        """Run the stack over a sequence.

        Args:
            x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched.
            state: initial `(h, c)`, h `[L*D, B, P]`, c `[L*D, B, H]` (without B unbatched); zeros if None.
            lengths: `int[B]`, each row's count of valid steps.
            resets: `bool[T, B]` (`[B, T]` with `batch_first`), True where a new sequence begins.
            reset_state: `(h, c)` that a row begins anew from at a reset, with or without B; zeros if None.

        Returns:
            `(output, state)`, output `[T, B, D*P]` (axes as x's); the state a plain tuple if a plain tuple came in.

        Raises:
            ValueError, TypeError, NotImplementedError: as `jaxlstm.lstm` does.
            ValueError: a state that `nnx.Sequential` unpacked from the layer before.
        """
        return run(lstm, self, x, state, lengths=lengths, resets=resets, reset_state=reset_state)


class LSTMCell(OneCell):
    """`torch.nn.LSTMCell` as an NNX module: `cell(x, state=None) -> LSTMState`, unpacking as `h, c`.

    Its parameters are `nnx.Param` attributes under PyTorch's names: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    It is no cell for Flax's `nnx.RNN`, whose cells are called `cell(carry, x)` with a carry `(c, h)`: over time runs
    `LSTM`.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has its two biases.
        dtype: what x and parameters are cast to before the step, and so the dtype of the result; None for the common
            dtype of x and parameters.
        param_dtype: dtype of the parameters.
        weight_init: as `LSTM`'s, and so the next three.
        bias_init: of both biases.
        weight_hh_init: of W_hh alone.
        bias_hh_init: of b_hh alone.
        rngs: `nnx.Rngs` with the stream `params`.

    Raises:
        ValueError: a size out of range.
        TypeError: one of the wrong kind.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html

    >>> import jax.numpy as jnp, jaxlstm.nnx
    >>> from flax import nnx
    >>> cell = jaxlstm.nnx.LSTMCell(100, 30, rngs=nnx.Rngs(0))
    >>> h, c = cell(jnp.ones((3, 100)))
    >>> h, c = cell(jnp.ones((3, 100)), (h, c))
    >>> h.shape
    (3, 30)
    """

    cell = cells.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        weight_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        weight_hh_init: Initializer | None = None,
        bias_hh_init: Initializer | None = None,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        set_up_cell(
            self,
            rngs,
            weight_init,
            bias_init,
            weight_hh_init,
            bias_hh_init,
            input_size=input_size,
            hidden_size=hidden_size,
            bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
        )

    def __call__(self, x: jax.typing.ArrayLike, state: _flax.State = None) -> LSTMState:
        """One step.

        Args:
            x: `[B, I]`, or `[I]` unbatched.
            state: `(h, c)`, each `[B, H]` (without B unbatched); zeros if None.

        Returns:
            The new state: a plain tuple if a plain tuple came in, else an `LSTMState`.

        Raises:
            ValueError, TypeError: as `jaxlstm.lstm_cell` does.
        """
        return run_cell(lstm_cell, self, x, state)
