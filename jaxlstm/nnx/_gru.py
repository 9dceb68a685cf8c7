"""NNX's GRU and GRUCell."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlstm import _flax, cells
from jaxlstm._gru import gru, gru_cell
from jaxlstm._init import Initializer
from jaxlstm.nnx._base import OneCell, Stack, run, run_cell, set_up, set_up_cell


class GRU(Stack):
    """`torch.nn.GRU` as an NNX module: `gru(x, h_0=None, ...) -> (output, h_n)`.

    Its parameters are flat `nnx.Param` attributes under PyTorch's names, as `LSTM`'s, of 3H rows: gates r, z, n. What
    that says of training mode, `nnx.Sequential` and `from_named_parameters` holds here.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the cells have their two biases.
        batch_first: whether x, output and resets have B before T; states never move.
        dropout: share of each layer's output but the last that is zeroed in training mode.
        bidirectional: whether each layer also runs in reverse (D = 2).
        dtype: what x and parameters are cast to before the run; None for their common dtype.
        param_dtype: dtype of the parameters.
        implementation: None, "native" or "xla".
        weight_init: initializer `(key, shape, dtype)` of each weight, as in `LSTM`; None for U(-1/sqrt(H), 1/sqrt(H)).
        bias_init: the same for both biases.
        weight_hh_init: the same for W_hh alone; None for `weight_init`.
        bias_hh_init: the same for b_hh alone; None for `bias_init`.
        checkpoint_every: k to keep only every k-th state for the backward pass.
        unroll: steps that one iteration of the loop takes.
        rngs: `nnx.Rngs` with the stream `params`, and `dropout` if dropout acts anywhere.

    Raises:
        ValueError: a size or rate out of range.
        TypeError: one of the wrong kind.

    Warns:
        UserWarning: dropout on a single layer, where it has nowhere to act.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> import jax.numpy as jnp, jaxlstm.nnx
    >>> from flax import nnx
    >>> gru = jaxlstm.nnx.GRU(input_size=3, hidden_size=5, num_layers=2, rngs=nnx.Rngs(0))
    >>> output, h_n = gru(jnp.ones((7, 4, 3)), lengths=jnp.array([7, 5, 2, 7]))
    >>> output.shape, h_n.shape
    ((7, 4, 5), (2, 4, 5))
    """

    cell = cells.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
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
            dtype=dtype,
            param_dtype=param_dtype,
            implementation=implementation,
            checkpoint_every=checkpoint_every,
            unroll=unroll,
        )

    def zero_state(self, batch_size: int | None = None) -> jax.Array:
        """The zeros `[L*D, B, H]` that a sequence starts from, without B for None; see `LSTM.zero_state`."""
        return _flax.zero_state(self, batch_size).h

    def __call__(
        self,
        x: jax.typing.ArrayLike,
        state: jax.typing.ArrayLike | None = None,
        *,
        lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
        resets: jax.typing.ArrayLike | None = None,
        reset_state: jax.typing.ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Run the stack over a sequence.

        Args:
            x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched.
            state: initial h `[L*D, B, H]` (without B unbatched); zeros if None.
            lengths: `int[B]`, each row's count of valid steps.
            resets: `bool[T, B]` (`[B, T]` with `batch_first`), True where a new sequence begins.
            reset_state: h that a row begins anew from at a reset, with or without B; zeros if None.

        Returns:
            `(output, h_n)`, output `[T, B, D*H]` (axes as x's), h_n `[L*D, B, H]`.

        Raises:
            ValueError, TypeError, NotImplementedError: as `jaxlstm.gru` does.
        """
        return run(gru, self, x, state, lengths=lengths, resets=resets, reset_state=reset_state)


class GRUCell(OneCell):
    """`torch.nn.GRUCell` as an NNX module: `cell(x, h=None) -> h`.

    Its parameters are `nnx.Param` attributes under PyTorch's names, gates r, z, n. It is no cell for Flax's `nnx.RNN`.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has its two biases.
        dtype: what x, h and parameters are cast to; None for their common dtype.
        param_dtype: dtype of the parameters.
        weight_init: initializer `(key, shape, dtype)` of each weight, as in `LSTM`; None for U(-1/sqrt(H), 1/sqrt(H)).
        bias_init: the same for both biases.
        weight_hh_init: the same for W_hh alone; None for `weight_init`.
        bias_hh_init: the same for b_hh alone; None for `bias_init`.
        rngs: `nnx.Rngs` with the stream `params`.

    Raises:
        ValueError: a size out of range.
        TypeError: one of the wrong kind.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html

    >>> import jax.numpy as jnp, jaxlstm.nnx
    >>> from flax import nnx
    >>> jaxlstm.nnx.GRUCell(3, 5, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
    (2, 5)
    """

    cell = cells.GRU

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

    def zero_state(self, batch_size: int | None = None) -> jax.Array:
        """The zeros `[B, H]` that a sequence starts from, `[H]` for None; see `LSTMCell.zero_state`."""
        return _flax.zero_cell_state(self, batch_size).h

    def __call__(self, x: jax.typing.ArrayLike, state: jax.typing.ArrayLike | None = None) -> jax.Array:
        """One step.

        Args:
            x: `[B, I]`, or `[I]` unbatched.
            state: h `[B, H]` (without B unbatched); zeros if None.

        Returns:
            The new h.

        Raises:
            ValueError, TypeError: as `jaxlstm.gru_cell` does.
        """
        return run_cell(gru_cell, self, x, state)
