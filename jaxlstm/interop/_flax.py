"""Flax's LSTM cells, in and out.

Linen's `LSTMCell` and `OptimizedLSTMCell`, and NNX's `LSTMCell`, name a kernel by its operand and gate: `ii if ig io`
`[I, H]` without bias, `hi hf hg ho` `[H, H]` with a bias `[H]`. NNX's `OptimizedLSTMCell` has them in one: `dense_i`
`[I, 4H]`, `dense_h` `[H, 4H]` with bias `[4H]`, gates in the order i, f, g, o. Their carry is `(c, h)`, ours `(h, c)`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.interop._cells import check_array, in_jax, one_bias, reading, stacked, summed_bias, unprojected
from jaxlstm.interop._nnx_modules import refuse_other_equations
from jaxlstm.interop._trees import unwrapped

_GATES = "ifgo"
_FORWARD, _BACKWARD = "forward_rnn", "backward_rnn"


def from_flax(params: Any) -> LSTMParams:
    """Parameters from Flax, of Linen or NNX.

    A carry of Flax's is `(c, h)` and no type tells it from a state `(h, c)`: turn it around,
    `c, h = carry; jaxlstm.lstm(params, x, (h[None], c[None]))`, `[None]` being the axis `L*D` of a stack.

    Args:
        params: one layer, or a list over layers of a stack, first to last.
            A layer is the parameters of an `LSTMCell` or `OptimizedLSTMCell`, of an `RNN` of one, or of a
            `Bidirectional` of two: Linen's nested dict (as under `variables["params"]`, or with that key around it, or
            the module's name), its leaves boxed or not, or an NNX module, its `nnx.State` or pure dict, or what orbax
            restores of one. Directions that stand apart are paired: `(forward, backward)`.

    Returns:
        `LSTMParams`; Flax's one bias is `bias_ih`, and `bias_hh` is zero. Only a module tells its equations: give what
        has other activations or runs in reverse as a module, to be refused.

    Raises:
        ValueError: names that are no LSTM cell's; arrays of other shapes or not floating; an NNX module with a gate_fn,
            activation_fn or merge_fn other than PyTorch's, or that runs in reverse. The message names it.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#recurrent

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxlstm
    >>> variables = nn.RNN(nn.OptimizedLSTMCell(5)).init(jax.random.key(0), jnp.ones((2, 7, 3)))
    >>> params = jaxlstm.interop.from_flax(variables)
    >>> output, state = jaxlstm.lstm(params, jnp.ones((2, 7, 3)), batch_first=True)
    """
    with reading("params"):
        layers = params if isinstance(params, list) else [params]
        return in_jax(stacked([_cell(way) for way in _directions(layer)] for layer in layers))


def to_flax(params: LSTMParams) -> list[dict[str, Any]]:
    """Parameters for Linen's cells, and layers of them.

    Args:
        params: of a stack.

    Returns:
        A list over layers: with one direction, the parameters of an `LSTMCell` or `OptimizedLSTMCell`; with two, those
        of a `Bidirectional` of two `RNN`s. The bias is the sum of the two; where there are none, it is zero.

    Raises:
        ValueError: a projection, which Flax has not; parameters that `jaxlstm.lstm` would refuse.
        TypeError: parameters that are no stack.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> (cell,) = jaxlstm.interop.to_flax(params)
    >>> nn.RNN(nn.OptimizedLSTMCell(5)).apply({"params": {"cell": cell}}, jnp.ones((2, 7, 3))).shape
    (2, 7, 5)
    """
    layers = [[_kernels(cell) for cell in cells] for cells in unprojected(params, "Flax")]
    return [
        cells[0] if len(cells) == 1 else {_FORWARD: {"cell": cells[0]}, _BACKWARD: {"cell": cells[1]}}
        for cells in layers
    ]


def _directions(layer: Any) -> list[Mapping[str, Any]]:
    """The one or two cells of a layer as nested dicts."""
    if isinstance(layer, tuple):
        forward, *others = layer
        refuse_other_equations(forward)
        for each in others:
            refuse_other_equations(each, backward=True)
        return [cell for way in layer for cell in _cells(unwrapped(way))]
    refuse_other_equations(layer)
    return _cells(unwrapped(layer))


def _cells(layer: Any) -> list[Mapping[str, Any]]:
    if not isinstance(layer, Mapping):
        raise TypeError(f"expected a nested dict, an nnx.State or an nnx.Module, got {type(layer).__name__}.")
    if _FORWARD in layer and _BACKWARD in layer:
        return [*_cells(layer[_FORWARD]), *_cells(layer[_BACKWARD])]
    for inner in ("params", "cell"):
        if inner in layer:
            return _cells(layer[inner])
    if len(layer) == 1:  # A module by its name, as `OptimizedLSTMCell_0`.
        (inner,) = layer.values()
        return _cells(inner) if isinstance(inner, Mapping) else [layer]
    return [layer]


def _cell(layer: Mapping[str, Any]) -> LSTMCellParams:
    # NNX's attribute can't be called `if`.
    leaves = {
        f"{str(name).removesuffix('_')}.{leaf}": array
        for name, arrays in layer.items()
        if isinstance(arrays, Mapping)
        for leaf, array in arrays.items()
    }
    fused = "dense_i.kernel" in leaves
    inputs = ["dense_i"] if fused else [f"i{gate}" for gate in _GATES]
    states = ["dense_h"] if fused else [f"h{gate}" for gate in _GATES]
    expected = [f"{name}.kernel" for name in inputs + states] + [f"{name}.bias" for name in states]
    if set(leaves) != set(expected):
        odd = ", ".join(sorted(set(leaves) ^ set(expected)))
        raise ValueError(
            f"missing or surplus: {odd}. Give the parameters of one LSTM cell, RNN or Bidirectional, or a list over "
            "layers of these; those of jaxlstm's own modules have PyTorch's names, which from_torch takes."
        )

    first = states[0] + ".kernel"
    hidden = check_array(first, leaves[first], "H, 4H" if fused else "H, H", (None, None)).shape[0]
    width = 4 * hidden if fused else hidden

    def joined(names: list[str], leaf: str, axes: str, *shape: int | None) -> np.ndarray:
        keys = [f"{name}.{leaf}" for name in names]
        return np.concatenate([check_array(key, leaves[key], axes, shape) for key in keys], axis=-1)

    wide = "4H" if fused else "H"
    return one_bias(
        joined(inputs, "kernel", f"I, {wide}", None, width).T,
        joined(states, "kernel", f"H, {wide}", hidden, width).T,
        joined(states, "bias", wide, width),
    )


def _kernels(cell: LSTMCellParams) -> dict[str, dict[str, np.ndarray]]:
    """A cell under Linen's names."""
    weight_ih, weight_hh = (np.split(np.asarray(weight), 4) for weight in (cell.weight_ih, cell.weight_hh))
    bias = summed_bias(cell)
    biases = np.split(np.zeros(cell.weight_hh.shape[0], weight_hh[0].dtype) if bias is None else bias, 4)
    inputs = {f"i{gate}": {"kernel": np.array(w.T)} for gate, w in zip(_GATES, weight_ih, strict=True)}
    states = {
        f"h{gate}": {"kernel": np.array(w.T), "bias": b} for gate, w, b in zip(_GATES, weight_hh, biases, strict=True)
    }
    return inputs | states
