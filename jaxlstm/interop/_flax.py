"""Flax's LSTM and GRU cells, in and out.

Linen's `LSTMCell` and `OptimizedLSTMCell`, and NNX's `LSTMCell`, name a kernel by its operand and gate: `ii if ig io`
`[I, H]` without bias, `hi hf hg ho` `[H, H]` with a bias `[H]`. NNX's `OptimizedLSTMCell` has them in one: `dense_i`
`[I, 4H]`, `dense_h` `[H, 4H]` with bias `[4H]`, gates in the order i, f, g, o. Their carry is `(c, h)`, ours `(h, c)`.

`GRUCell` is PyTorch's, gates r, z, n, its bias that of the input. Linen's kernels are `ir iz in` with biases `[H]`,
`hr hz` without and `hn` with one; NNX's are `dense_i` `[I, 3H]` with bias `[3H]` and `dense_h` `[H, 3H]` without.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlstm._types import CellParams, LSTMParams
from jaxlstm.interop._cells import (
    candidate_bias,
    cell_of_params,
    check_array,
    check_unprojected,
    in_jax,
    kind_of,
    reading,
    stacked,
)
from jaxlstm.interop._nnx_modules import refuse_other_equations
from jaxlstm.interop._trees import unwrapped

_GATES = {"LSTM": "ifgo", "GRU": "rzn"}
_FORWARD, _BACKWARD = "forward_rnn", "backward_rnn"


def from_flax(params: Any) -> LSTMParams:
    """Parameters from Flax, of Linen or NNX.

    A carry of Flax's is `(c, h)` and no type tells it from a state `(h, c)`: turn it around,
    `c, h = carry; jaxlstm.lstm(params, x, (h[None], c[None]))`, `[None]` being the axis `L*D` of a stack.

    Args:
        params: one layer, or a list over layers of a stack, first to last.
            A layer is the parameters of an `LSTMCell`, `OptimizedLSTMCell` or `GRUCell`, of an `RNN` of one, or of a
            `Bidirectional` of two: Linen's nested dict (as under `variables["params"]`, or with that key around it, or
            the module's name), its leaves boxed or not, or an NNX module, its `nnx.State` or pure dict, or what orbax
            restores of one. Directions that stand apart are paired: `(forward, backward)`.

    Returns:
        `LSTMParams`, of `3H` rows for a GRU, which `jaxlstm.gru` runs. Flax's one bias is `bias_ih`, and `bias_hh` is
        zero but for the bias of Linen's `hn`. Only a module tells its equations: give what has other activations or
        runs in reverse as a module, to be refused.

    Raises:
        ValueError: names that are no LSTM's or GRU's cell; arrays of other shapes or not floating; an NNX module with a
            gate_fn, activation_fn or merge_fn other than PyTorch's, or that runs in reverse. The message names it.

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
        A list over layers: with one direction, the parameters of an `LSTMCell` or `OptimizedLSTMCell`, or of a
        `GRUCell`; with two, those of a `Bidirectional` of two `RNN`s. The bias is the sum of the two, but that of a
        GRU's n, which has both; where there are none, it is zero.

    Raises:
        ValueError: a projection or an RNN's parameters, which Flax has not; some that do not fit together.
        TypeError: parameters that are no stack.

    >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxlstm
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> (cell,) = jaxlstm.interop.to_flax(params)
    >>> nn.RNN(nn.OptimizedLSTMCell(5)).apply({"params": {"cell": cell}}, jnp.ones((2, 7, 3))).shape
    (2, 7, 5)
    """
    params = check_unprojected(params, "Flax")
    kind = kind_of(cell_of_params(params))
    if kind not in _GATES:
        raise ValueError(
            f"params: expected an LSTM's or a GRU's, got an {kind}'s: export it to PyTorch or safetensors."
        )
    layers = [[_kernels(cell, _GATES[kind]) for cell in cells] for cells in params]
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


def _cell(layer: Mapping[str, Any]) -> CellParams:
    # NNX's attribute can't be called `if`.
    leaves = {
        f"{str(name).removesuffix('_')}.{leaf}": array
        for name, arrays in layer.items()
        if isinstance(arrays, Mapping)
        for leaf, array in arrays.items()
    }
    fused = "dense_i.kernel" in leaves
    kind = "GRU" if "dense_i.bias" in leaves or "iz.kernel" in leaves else "LSTM"
    gates = _GATES[kind]
    inputs = ["dense_i"] if fused else [f"i{gate}" for gate in gates]
    states = ["dense_h"] if fused else [f"h{gate}" for gate in gates]
    with_bias = {"LSTM": states, "GRU": inputs}[kind]
    with_second = ["hn"] if kind == "GRU" and not fused else []
    expected = [f"{name}.kernel" for name in inputs + states] + [f"{name}.bias" for name in with_bias + with_second]
    if set(leaves) != set(expected):
        odd = ", ".join(sorted(set(leaves) ^ set(expected)))
        raise ValueError(
            f"missing or surplus: {odd}. Give the parameters of one LSTM or GRU cell, RNN or Bidirectional, or a list "
            "over layers of these; those of jaxlstm's own modules have PyTorch's names, which from_torch takes."
        )

    first, wide = states[0] + ".kernel", f"{len(gates)}H" if fused else "H"
    hidden = check_array(first, leaves[first], f"H, {wide}", (None, None)).shape[0]
    width = len(gates) * hidden if fused else hidden

    def joined(names: list[str], leaf: str, axes: str, *shape: int | None) -> np.ndarray:
        keys = [f"{name}.{leaf}" for name in names]
        return np.concatenate([check_array(key, leaves[key], axes, shape) for key in keys], axis=-1)

    return candidate_bias(
        joined(inputs, "kernel", f"I, {wide}", None, width).T,
        joined(states, "kernel", f"H, {wide}", hidden, width).T,
        joined(with_bias, "bias", wide, width),
        joined(with_second, "bias", wide, width) if with_second else None,
    )


def _kernels(cell: CellParams, gates: str) -> dict[str, dict[str, np.ndarray]]:
    """A cell under Linen's names."""
    absent = np.zeros(cell.weight_hh.shape[0], cell.weight_hh.dtype)
    of_x, of_h = (np.split(absent if b is None else np.asarray(b), len(gates)) for b in (cell.bias_ih, cell.bias_hh))
    summed = [a + b for a, b in zip(of_x, of_h, strict=True)]
    if gates == _GATES["LSTM"]:
        input_biases, state_biases = {}, dict(zip(gates, summed, strict=True))
    else:  # The reset gate acts between n's two.
        input_biases, state_biases = dict(zip(gates, [*summed[:2], of_x[2]], strict=True)), {"n": of_h[2]}

    def kernels(operand: str, weight: Any, biases: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        return {
            operand + gate: {"kernel": np.array(w.T)} | ({"bias": biases[gate]} if gate in biases else {})
            for gate, w in zip(gates, np.split(np.asarray(weight), len(gates)), strict=True)
        }

    return kernels("i", cell.weight_ih, input_biases) | kernels("h", cell.weight_hh, state_biases)
