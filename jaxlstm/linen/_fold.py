"""Linen's module of any cell."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlstm._fold import fold
from jaxlstm._types import Cell
from jaxlstm.linen._base import Stack


class Fold(Stack):
    """`jaxlstm.fold` of a cell of one's own as a Linen module: `apply(variables, x, state=None, ...)`.

    Its parameters are flat leaves under PyTorch's names, as `LSTM`'s, of G*H rows, and the rule's own, `extra_l0`,
    `extra_l0_reverse`, ..., trees as `cell.init_extra` makes them.

    Attributes:
        cell: the rule and what goes with it.
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bias: whether the cells have their two biases.
        batch_first: whether x, output and resets have B before T; states never move.
        dropout: share of each layer's output but the last that is zeroed when not deterministic.
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
        deterministic: False to drop, True not to; None leaves it to the call.

    Raises:
        ValueError: when built, a size or rate out of range.
        TypeError: when built, one of the wrong kind.

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> model = jaxlstm.Fold(jaxlstm.cells.lstm(layer_norm=True), input_size=3, hidden_size=5, bias=False)
    >>> (output, (h_n, c_n)), variables = model.init_with_output(jax.random.key(0), jnp.ones((7, 4, 3)))
    >>> output.shape, variables["params"]["extra_l0"]["c_norm"]["gain"].shape
    ((7, 4, 5), (5,))
    """

    cell: Cell
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
        state: Any = None,
        *,
        lengths: jax.typing.ArrayLike | Sequence[int] | None = None,
        resets: jax.typing.ArrayLike | None = None,
        reset_state: Any = None,
        deterministic: bool | None = None,
    ) -> tuple[jax.Array, Any]:
        """Run the stack over a sequence.

        Args:
            x: `[T, B, I]`, `[B, T, I]` with `batch_first`, or `[T, I]` unbatched.
            state: the initial one, as in `jaxlstm.fold`; zeros if None.
            lengths: `int[B]`, each row's count of valid steps.
            resets: `bool[T, B]` (`[B, T]` with `batch_first`), True where a new sequence begins.
            reset_state: what a row begins anew from at a reset, with or without B; zeros if None.
            deterministic: as in `LSTM.__call__`.

        Returns:
            `(output, state)`, output `[T, B, D*P]` (axes as x's).

        Raises:
            ValueError, TypeError, NotImplementedError: as `jaxlstm.fold` does.
            ValueError: `deterministic` given here and as an attribute.
        """
        options: dict[str, Any] = {"lengths": lengths, "resets": resets, "reset_state": reset_state}
        return self.run(functools.partial(fold, self.cell), x, state, deterministic, **options)
