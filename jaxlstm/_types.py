"""The pytrees that everything else passes around.

Legend, used by every shape in this package:
`B` batch, `T` time, `I` input, `H` hidden, `P` output width (`proj_size` if projected, else `H`),
`L` layers, `D` directions (1 or 2). Gates lie along the `4H` axis in PyTorch's order: i, f, g, o.
"""

from typing import NamedTuple, TypeAlias

import jax
from jax import export


class LSTMCellParams(NamedTuple):
    """Parameters of one cell: one direction of one layer.

    Attributes:
        weight_ih: `[4H, I]`, input to gates.
        weight_hh: `[4H, P]`, previous output to gates.
        bias_ih: `[4H]`, or None for a cell without bias.
        bias_hh: `[4H]`, or None for a cell without bias. Both biases are added; there are two only because
            PyTorch (after cuDNN) has two, and training and checkpoints see the difference.
        weight_hr: `[P, H]`, hidden to output, or None for a cell without projection (then P = H).

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


LSTMParams: TypeAlias = tuple[tuple[LSTMCellParams, ...], ...]
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


# So that what takes or gives them can be serialized by `jax.export`.
for _type in (LSTMCellParams, LSTMState):
    export.register_namedtuple_serialization(_type, serialized_name=f"jaxlstm.{_type.__name__}")
