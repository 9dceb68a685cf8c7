"""Linen's LSTM and LSTMCell."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlstm import _flax, cells
from jaxlstm._lstm import lstm, lstm_cell
from jaxlstm._types import LSTMState
from jaxlstm.linen._base import OneCell, Stack


class LSTM(Stack):
    """`torch.nn.LSTM` as a Linen module: `apply(variables, x, state=None, ...) -> (output, LSTMState)`.

    Its parameters are flat leaves under PyTorch's names (`weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`,
    `weight_hr_l0`, then `_l0_reverse`, `_l1`, ...), so a `state_dict` and `variables["params"]` have the same keys
    and shapes. `jaxlstm.from_named_parameters(variables["params"])` makes `LSTMParams` of them, under `jit` too.

    A state is `(h, c)`, where Flax's carry is `(c, h)`. In `nn.Sequential` put `lambda output, state: output` behind
    it. Under `nn.vmap` and `nn.scan` Flax drops a call's keyword arguments, with a warning, and under `nn.remat` and
    `nn.jit` it traces them: there `deterministic` belongs here, as in `nn.Dropout`.

    Attributes:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the cells have their two biases.
        batch_first: whether x, output and resets have B before T; states never move.
        dropout: share of each layer's output but the last that is zeroed when not deterministic.
        bidirectional: whether each layer also runs in reverse (D = 2).
        proj_size: P, less than H; 0 for no projection.
        dtype: what x and parameters are cast to before the run, and so the dtype of the results; None for the common
            dtype of x and parameters.
        param_dtype: dtype of the parameters.
        implementation: None for the best on the platform compiled for, or a name, as in `jaxlstm.lstm`.
        weight_init: initializer `(key, shape, dtype)` of each weight, partitioned ones (`nn.with_partitioning`) too;
            None for PyTorch's U(-1/sqrt(H), 1/sqrt(H)). It gets `[4H, I]`, of which a plain `lecun_normal()` or
            `orthogonal()` mistakes the axes: `jaxlstm.initializers.per_gate(lecun_normal())`.
        bias_init: the same for both biases, which are added, so that `constant(1)` counts twice:
            `jaxlstm.initializers.forget_bias(1.0)`.
        weight_hh_init: the same for W_hh alone; None for `weight_init`.
        bias_hh_init: the same for b_hh alone; None for `bias_init`.
        checkpoint_every: k to keep only every k-th state for the backward pass, as in `jaxlstm.lstm`.
        unroll: steps that one iteration of the loop takes; None leaves it to the implementation.
        deterministic: False to drop, True not to; None leaves it to the call.

    Raises:
        ValueError: when built, a size or rate out of range.
        TypeError: when built, one of the wrong kind.

    Warns:
        UserWarning: once, when built with dropout on a single layer, where it has nowhere to act.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> model = jaxlstm.LSTM(input_size=3, hidden_size=5, num_layers=2, bidirectional=True, batch_first=True)
    >>> x = jnp.ones((4, 7, 3))  # [B, T, I]
    >>> variables = model.init(jax.random.key(0), x)
    >>> variables["params"]["weight_ih_l1_reverse"].shape
    (20, 10)
    >>> output, (h_n, c_n) = model.apply(variables, x, lengths=jnp.array([7, 5, 2, 7]))
    >>> output.shape, h_n.shape
    ((4, 7, 10), (4, 4, 5))
    """

    cell = cells.LSTM

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    proj_size: int = 0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    implementation: str | None = None
    weight_init: Any = None
    bias_init: Any = None
    weight_hh_init: Any = None
    bias_hh_init: Any = None
    checkpoint_every: int | None = None
    unroll: int | None = None
    deterministic: bool | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.typing.ArrayLike,
        state: _flax.State = None,
        *,
        lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
        resets: jax.typing.ArrayLike | None = None,
        reset_state: _flax.State = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, LSTMState]:
        """Run the stack over a sequence.

        Args:
            x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched.
            state: initial `(h, c)`, h `[L*D, B, P]`, c `[L*D, B, H]` (without B unbatched); zeros if None.
            lengths: `int[B]`, each row's count of valid steps.
            resets: `bool[T, B]` (`[B, T]` with `batch_first`), True where a new sequence begins.
            reset_state: `(h, c)` that a row begins anew from at a reset, with or without B; zeros if None.
            deterministic: False to drop: then `rngs={"dropout": key}` is needed if `dropout` acts anywhere. None for
                the attribute, and True if that is None too.

        Returns:
            `(output, state)`, output `[T, B, D*P]` (axes as x's); the state a plain tuple if a plain tuple came in.

        Raises:
            ValueError, TypeError, NotImplementedError: as `jaxlstm.lstm` does.
            ValueError: `deterministic` given here and as an attribute; a state that `nn.Sequential` unpacked from the
                layer before.
        """
        options: dict[str, Any] = {"lengths": lengths, "resets": resets, "reset_state": reset_state}
        return self.run(lstm, x, state, deterministic, **options)


class LSTMCell(OneCell):
    """`torch.nn.LSTMCell` as a Linen module: `apply(variables, x, state=None) -> LSTMState`, unpacking as `h, c`.

    Its parameters are flat leaves under PyTorch's names: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    It is no cell for Flax's `nn.RNN`, whose cells are called `cell(carry, x)` with a carry `(c, h)`: over time runs
    `LSTM`.

    Attributes:
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

    Raises:
        ValueError: when built, a size out of range.
        TypeError: when built, one of the wrong kind.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> cell_0, cell_1 = jaxlstm.LSTMCell(100, 30), jaxlstm.LSTMCell(30, 20)
    >>> x = jnp.ones((3, 100))
    >>> (h0, c0), variables_0 = cell_0.init_with_output(jax.random.key(0), x)
    >>> (h1, c1), variables_1 = cell_1.init_with_output(jax.random.key(1), h0)
    >>> h0, c0 = cell_0.apply(variables_0, x, (h0, c0))
    >>> h0.shape, h1.shape
    ((3, 30), (3, 20))
    """

    cell = cells.LSTM

    input_size: int
    hidden_size: int
    bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    weight_init: Any = None
    bias_init: Any = None
    weight_hh_init: Any = None
    bias_hh_init: Any = None

    @nn.compact
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
        return self.run(lstm_cell, x, state)
