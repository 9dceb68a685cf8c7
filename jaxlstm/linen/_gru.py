"""Linen's GRU and GRUCell."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlstm import _flax, cells
from jaxlstm._gru import gru, gru_cell
from jaxlstm.linen._base import OneCell, Stack


class GRU(Stack):
    """`torch.nn.GRU` as a Linen module: `apply(variables, x, h_0=None, ...) -> (output, h_n)`.

    Its parameters are flat leaves under PyTorch's names, as `LSTM`'s, of 3H rows: gates r, z, n. What that says of
    `nn.Sequential`, `nn.vmap`, `nn.remat` holds here.

    Attributes:
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the cells have their two biases.
        batch_first: whether x, output and resets have B before T; states never move.
        dropout: share of each layer's output but the last that is zeroed when not deterministic.
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
        deterministic: False to drop, True not to; None leaves it to the call.

    Raises:
        ValueError: when built, a size or rate out of range.
        TypeError: when built, one of the wrong kind.

    Warns:
        UserWarning: once, when built with dropout on a single layer, where it has nowhere to act.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> model = jaxlstm.GRU(input_size=3, hidden_size=5, num_layers=2, batch_first=True)
    >>> x = jnp.ones((4, 7, 3))  # [B, T, I]
    >>> variables = model.init(jax.random.key(0), x)
    >>> output, h_n = model.apply(variables, x, lengths=jnp.array([7, 5, 2, 7]))
    >>> output.shape, h_n.shape
    ((4, 7, 5), (2, 4, 5))
    """

    cell = cells.GRU

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
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

    @nn.nowrap
    def zero_state(self, batch_size: int | None = None) -> jax.Array:
        """The zeros `[L*D, B, H]` that a sequence starts from, without B for None; see `LSTM.zero_state`."""
        return _flax.zero_state(self, batch_size).h

    @nn.compact
    def __call__(
        self,
        x: jax.typing.ArrayLike,
        state: jax.typing.ArrayLike | None = None,
        *,
        lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
        resets: jax.typing.ArrayLike | None = None,
        reset_state: jax.typing.ArrayLike | None = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Run the stack over a sequence.

        Args:
            x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched.
            state: initial h `[L*D, B, H]` (without B unbatched); zeros if None.
            lengths: `int[B]`, each row's count of valid steps.
            resets: `bool[T, B]` (`[B, T]` with `batch_first`), True where a new sequence begins.
            reset_state: h that a row begins anew from at a reset, with or without B; zeros if None.
            deterministic: as in `LSTM.__call__`.

        Returns:
            `(output, h_n)`, output `[T, B, D*H]` (axes as x's), h_n `[L*D, B, H]`.

        Raises:
            ValueError, TypeError, NotImplementedError: as `jaxlstm.gru` does.
            ValueError: `deterministic` given here and as an attribute.
        """
        options: dict[str, Any] = {"lengths": lengths, "resets": resets, "reset_state": reset_state}
        return self.run(gru, x, state, deterministic, **options)


class GRUCell(OneCell):
    """`torch.nn.GRUCell` as a Linen module: `apply(variables, x, h=None) -> h`.

    Its parameters are flat leaves under PyTorch's names, gates r, z, n. It is no cell for Flax's `nn.RNN`.

    Attributes:
        input_size: I.
        hidden_size: H.
        bias: whether the cell has its two biases.
        dtype: what x, h and parameters are cast to; None for their common dtype.
        param_dtype: dtype of the parameters.
        weight_init: initializer `(key, shape, dtype)` of each weight, as in `LSTM`; None for U(-1/sqrt(H), 1/sqrt(H)).
        bias_init: the same for both biases.
        weight_hh_init: the same for W_hh alone; None for `weight_init`.
        bias_hh_init: the same for b_hh alone; None for `bias_init`.

    Raises:
        ValueError: when built, a size out of range.
        TypeError: when built, one of the wrong kind.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> h, variables = jaxlstm.GRUCell(3, 5).init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    >>> h.shape
    (2, 5)
    """

    cell = cells.GRU

    input_size: int
    hidden_size: int
    bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    weight_init: Any = None
    bias_init: Any = None
    weight_hh_init: Any = None
    bias_hh_init: Any = None

    @nn.nowrap
    def zero_state(self, batch_size: int | None = None) -> jax.Array:
        """The zeros `[B, H]` that a sequence starts from, `[H]` for None; see `LSTMCell.zero_state`."""
        return _flax.zero_cell_state(self, batch_size).h

    @nn.compact
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
        return self.run(gru_cell, x, state)
