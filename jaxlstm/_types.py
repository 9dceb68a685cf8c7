"""The pytrees that everything else passes around, and what a cell is.

Legend, used by every shape in this package:
`B` batch, `T` time, `I` input, `H` hidden, `P` output width (`proj_size` if projected, else `H`),
`L` layers, `D` directions (1 or 2), `G` gates. Those of an LSTM lie along `4H` in PyTorch's order: i, f, g, o.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import export


class CellParams(NamedTuple):
    """Parameters of one cell: one direction of one layer. `LSTMCellParams` is another name for it.

    Attributes:
        weight_ih: `[G*H, I]`, input to gates; `[4H, I]` of an LSTM.
        weight_hh: `[G*H, P]`, previous output to gates.
        bias_ih: `[G*H]`, or None for a cell without bias.
        bias_hh: `[G*H]`, or None for a cell without bias. There are two because PyTorch (after cuDNN) has two; an LSTM
            adds both, so that only training and checkpoints see the difference.
        weight_hr: `[P, H]`, hidden to output, or None for a cell without projection (then P = H).
        extra: a pytree of the cell's own, which its rule is given; None for those of PyTorch.

    >>> import jax, jaxlstm
    >>> params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=5)
    >>> params.weight_ih.shape
    (20, 3)
    """

    weight_ih: jax.Array
    weight_hh: jax.Array
    bias_ih: jax.Array | None = None
    bias_hh: jax.Array | None = None
    weight_hr: jax.Array | None = None
    extra: Any = None


LSTMCellParams: TypeAlias = CellParams

AXES = {
    "weight_ih": ("G*H", "I"),
    "weight_hh": ("G*H", "P"),
    "bias_ih": ("G*H",),
    "bias_hh": ("G*H",),
    "weight_hr": ("P", "H"),
}
"""The one table of a cell's parameters: names and axes, from which shapes, checks, names in files and specs come."""

REQUIRED = tuple(name for name in AXES if name not in CellParams._field_defaults)
"""Those that no cell is without."""

BIASES = tuple(name for name, axes in AXES.items() if len(axes) == 1)
"""Those that a cell has all of or none."""


def rows_of(num_gates: int | None) -> str:
    """The axis of the gates as messages have it: "4H", "H" of one gate, "G*H" where G is not known."""
    return "G*H" if num_gates is None else f"{num_gates}H" if num_gates > 1 else "H"


def axes_of(name: str, num_gates: int | None = None) -> str:
    """A parameter's axes as messages have them: "4H, I"."""
    return ", ".join(AXES[name]).replace("G*H", rows_of(num_gates))


LSTMParams: TypeAlias = tuple[tuple[CellParams, ...], ...]
"""`params[layer][direction]`: direction 0 runs forward in time, 1 (if there) in reverse."""


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step. A plain `(h, c)` tuple serves wherever a state is taken.

    Attributes:
        h: `[B, P]` for a cell; `[L*D, B, P]` for a stack, in the order l0 forward, l0 reverse, l1 forward, ...
        c: `[B, H]` for a cell; `[L*D, B, H]` for a stack, in the same order.

    Unbatched, `B` is absent.

    >>> import jax.numpy as jnp, jaxlstm
    >>> h, c = jaxlstm.LSTMState(jnp.zeros((3, 5)), jnp.zeros((3, 5)))
    """

    h: jax.Array
    c: jax.Array


class HiddenState(NamedTuple):
    """What a GRU or a plain RNN carries from step to step. A plain `(h,)` tuple serves wherever a state is taken.

    Attributes:
        h: `[B, P]` for a cell; `[L*D, B, P]` for a stack, in the order l0 forward, l0 reverse, l1 forward, ...

    Unbatched, `B` is absent.

    >>> import jax.numpy as jnp, jaxlstm
    >>> (h,) = jaxlstm.cells.HiddenState(jnp.zeros((3, 5)))
    """

    h: jax.Array


class Cell(NamedTuple):
    """A recurrent cell: two products, and a rule for what one row makes of them.

        x_sums = W_ih x + b_ih        h_sums = W_hh h + b_hh        state, y = rule(extra, state, x_sums, h_sums)

    Hashable, and so static under `jit`: cells of the same rule and fields are one cell.

    Attributes:
        rule: from `(extra, state, x_sums [G, H], h_sums [G, H])` of one row to `(state, y)`: the state after the step,
            of the structure, shapes and dtypes of the one before, and the output y `[H]`. Any function that JAX
            differentiates; it never sees the batch. With a projection, W_hr y takes the place of y and of h. It may
            close over arrays that JAX traces; in `jax.shard_map` or on a mesh of `Explicit` axes give them as `extra`.
        num_gates: G.
        state: a NamedTuple type whose first field is `h`, which is fed to W_hh. Fields are `[H]` a row, and zero where
            a sequence begins; where `state` and `reset_state` say so, those after h are of any shape a row, a pytree
            too, and as given. What is not floating, a counter or a `jax.random` key, travels without a derivative.
        init_extra: from `(key, hidden_size, dtype)` to `extra`, a pytree of the rule's own parameters; None for none.

    >>> import jax, jax.numpy as jnp, jaxlstm
    >>> def minimal_gated_unit(extra, state, x_sums, h_sums):  # Zhou et al. 2016, its reset after the product
    ...     f = jax.nn.sigmoid(x_sums[0] + h_sums[0])
    ...     h = (1 - f) * state.h + f * jnp.tanh(x_sums[1] + f * h_sums[1])
    ...     return jaxlstm.cells.HiddenState(h), h
    >>> cell = jaxlstm.Cell(minimal_gated_unit, num_gates=2, state=jaxlstm.cells.HiddenState)
    >>> params = jaxlstm.init_fold(jax.random.key(0), cell, input_size=3, hidden_size=5)
    >>> output, state = jaxlstm.fold(cell, params, jnp.ones((7, 2, 3)), lengths=[7, 4])
    >>> output.shape
    (7, 2, 5)
    """

    rule: Callable[[Any, Any, jax.Array, jax.Array], tuple[Any, jax.Array]]
    num_gates: int
    state: Any = LSTMState
    init_extra: Callable[[jax.Array, int, Any], Any] | None = None

    @property
    def name(self) -> str:
        """The rule's, for messages and profiles."""
        return getattr(self.rule, "__name__", type(self.rule).__name__)


# So that what takes or gives them can be serialized by `jax.export`.
for _type in (CellParams, LSTMState, HiddenState):
    export.register_namedtuple_serialization(_type, serialized_name=f"jaxlstm.{_type.__name__}")
