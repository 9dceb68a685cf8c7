"""NNX's module of any cell."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlstm._check_cell import check_cell
from jaxlstm._fold import fold
from jaxlstm._init import Initializer
from jaxlstm._types import Cell
from jaxlstm.nnx._base import Stack, run, set_up


class Fold(Stack):
    """`jaxlstm.fold` of a cell of one's own as an NNX module: `fold(x, state=None, ...) -> (output, state)`.

    Its parameters are flat `nnx.Param` attributes under PyTorch's names, as `LSTM`'s, of G*H rows, and the rule's own,
    `extra_l0`, `extra_l0_reverse`, ..., trees as `cell.init_extra` makes them.

    Args:
        cell: the rule and what goes with it.
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the cells have their two biases.
        batch_first: whether x, output and resets have B before T; states never move.
        dropout: share of each layer's output but the last that is zeroed in training mode.
        bidirectional: whether each layer also runs in reverse (D = 2).
        proj_size: P, less than H; 0 for no projection.
        dtype: what x and parameters are cast to before the run; None for their common dtype.
        param_dtype: dtype of the parameters.
        implementation: as in `jaxlstm.fold`.
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

    >>> import jax.numpy as jnp, jaxlstm.nnx
    >>> from flax import nnx
    >>> cell = jaxlstm.cells.lstm(layer_norm=True)
    >>> fold = jaxlstm.nnx.Fold(cell, input_size=3, hidden_size=5, bias=False, rngs=nnx.Rngs(0))
    >>> output, (h_n, c_n) = fold(jnp.ones((7, 4, 3)))
    >>> output.shape
    (7, 4, 5)
    """

    cell: Cell

    def __init__(
        self,
        cell: Cell,
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
        check_cell(cell)
        set_up(
            self,
            rngs,
            weight_init,
            bias_init,
            weight_hh_init,
            bias_hh_init,
            cell=cell,
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
        state: Any = None,
        *,
        lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
        resets: jax.typing.ArrayLike | None = None,
        reset_state: Any = None,
    ) -> tuple[jax.Array, Any]:
        """Run the stack over a sequence.

        Args:
            x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched.
            state: the initial one, as in `jaxlstm.fold`; zeros if None.
            lengths: `int[B]`, each row's count of valid steps.
            resets: `bool[T, B]` (`[B, T]` with `batch_first`), True where a new sequence begins.
            reset_state: what a row begins anew from at a reset, with or without B; zeros if None.

        Returns:
            `(output, state)`, output `[T, B, D*P]` (axes as x's).

        Raises:
            ValueError, TypeError, NotImplementedError: as `jaxlstm.fold` does.
        """
        function = functools.partial(fold, self.cell)
        return run(function, self, x, state, lengths=lengths, resets=resets, reset_state=reset_state)
