"""Flax NNX modules: they hold parameters under PyTorch's names and call `jaxlstm.lstm`.

States are `(h, c)`, as PyTorch's, where Flax's own cells carry `(c, h)`.

>>> from jaxlstm.nnx import LSTM, LSTMCell
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlstm import _flax
from jaxlstm._init import Initializer, cell_shapes, initializer
from jaxlstm._types import LSTMState

__all__ = ["LSTM", "LSTMCell"]


class LSTM(_flax.NotFlaxsCell, nnx.Module):
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
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.implementation = implementation
        self.checkpoint_every = checkpoint_every
        self.unroll = unroll
        self.deterministic = False
        _flax.check_lstm(self)
        _flax.warn_of_idle_dropout(self, stacklevel=6)
        _declare(self, _flax.shapes(self), rngs, weight_init, bias_init, weight_hh_init, bias_hh_init)
        self.rngs = rngs.dropout.fork() if _flax.drops(self) else None

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
        leaves = {name: getattr(self, name)[...] for name in _flax.shapes(self)}
        # Only a call that drops may draw a key: drawing one changes the stream, which jit must then hand back.
        dropout_key = None if self.rngs is None or self.deterministic else self.rngs()
        return _flax.run(
            self, leaves, x, state, lengths=lengths, resets=resets, reset_state=reset_state, dropout_key=dropout_key
        )

    def zero_state(self, batch_size: int | None = None) -> LSTMState:
        """The zeros that a sequence starts from, in the dtype of the results if x is no wider than the parameters.

        Args:
            batch_size: B, or None for an unbatched x.

        Returns:
            `LSTMState`, h `[L*D, B, P]`, c `[L*D, B, H]` (without B for None).

        Raises:
            ValueError, TypeError: a size that is none.

        >>> import jaxlstm.nnx
        >>> from flax import nnx
        >>> jaxlstm.nnx.LSTM(3, 5, num_layers=2, proj_size=2, rngs=nnx.Rngs(0)).zero_state(batch_size=4).h.shape
        (2, 4, 2)
        """
        return _flax.zero_state(self, batch_size)

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view(model, deterministic=...)` sets.

        Args:
          deterministic: if True, nothing is dropped.
        """
        # `nnx.view_info` reads the docstring, and wants its argument two spaces in.
        if deterministic is not None:
            self.deterministic = deterministic


class LSTMCell(_flax.NotFlaxsCell, nnx.Module):
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
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        _flax.check_cell(self)
        _declare(self, self._shapes(), rngs, weight_init, bias_init, weight_hh_init, bias_hh_init)

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
        return _flax.run_cell(self, {name: getattr(self, name)[...] for name in self._shapes()}, x, state)

    def zero_state(self, batch_size: int | None = None) -> LSTMState:
        """The zeros that a sequence starts from, in the dtype of the results if x is no wider than the parameters.

        Args:
            batch_size: B, or None for an unbatched x.

        Returns:
            `LSTMState`, h and c `[B, H]` (`[H]` for None).

        Raises:
            ValueError, TypeError: a size that is none.

        >>> import jaxlstm.nnx
        >>> from flax import nnx
        >>> jaxlstm.nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0)).zero_state(batch_size=4).c.shape
        (4, 5)
        """
        return _flax.zero_cell_state(self, batch_size)

    def _shapes(self) -> dict[str, tuple]:
        return cell_shapes(self.input_size, self.hidden_size, bias=self.bias)


def _declare(module: LSTM | LSTMCell, shapes: dict[str, tuple], rngs: nnx.Rngs, *starts: Initializer | None) -> None:
    """Draw the module's parameters and set them as its attributes."""
    for name, shape in shapes.items():
        draw = initializer(name, module.hidden_size, *starts)
        setattr(module, name, nnx.Param(draw(rngs.params(), shape, module.param_dtype)))
