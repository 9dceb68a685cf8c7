"""LSTM nodes of an ONNX graph, in.

ONNX keeps the directions of a layer in one node: `W [D, 4H, I]`, `R [D, 4H, H]`, `B [D, 8H]` with the input's biases
before the state's, and gates in the order i, o, f, c.
"""

import os
from typing import Any

import jax

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.interop._cells import cell_of, check_array, check_finite, reading, reorder, stacked
from jaxlstm.interop._found import Found, pick
from jaxlstm.interop._onnx_graph import Graph, Scope

_TO_IFGO = (0, 2, 3, 1)
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]
_LONGEST_PATH = 10


def from_onnx(model_or_path: Any, node: str | None = None) -> LSTMParams:
    """Parameters of the LSTM nodes of an ONNX model, value for value.

    A node whose input is another's output, but for a change of layout, is the next layer of the same stack.

    Args:
        model_or_path: a path, the bytes of a model, or an `onnx.ModelProto`. Tensors kept in files beside the model are
            read for a path only, and from below its folder only.
        node: the name of the node to begin at (of its first output, where it has none); the layers above it come
            along. None for the model's only LSTM. Nodes in subgraphs (`If`, `Loop`) count too.

    Returns:
        `LSTMParams`, without biases where the node has none. A node of direction `reverse` comes as one direction:
        run it on x flipped in time. A node's `layout`, `sequence_lens` and initial states are no parameters: tell them
        to `jaxlstm.lstm` as `batch_first`, `lengths` and `state`.

    Raises:
        OSError: no such file, or one that may not be read.
        ValueError: no ONNX model; no such LSTM, or several and none chosen; weights that are computed at run time, do
            not fit together, or are not finite; peepholes, `clip`, `input_forget` or activations that this LSTM does
            not have. The message names file and node.
        ImportError: onnx is missing.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> import jax, jaxlstm, pathlib, tempfile
    >>> from jaxlstm.interop import from_onnx, to_onnx
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5, num_layers=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(params, pathlib.Path(folder, "lstm.onnx"))
    ...     loaded = from_onnx(pathlib.Path(folder, "lstm.onnx"))
    >>> bool((loaded[1][0].weight_hh == params[1][0].weight_hh).all())
    True
    """
    source = os.fspath(model_or_path) if isinstance(model_or_path, str | os.PathLike) else "ONNX model"
    with reading(source):
        return pick(find_onnx(model_or_path), node, "node").params()


def find_onnx(model_or_path: Any) -> dict[str, Found]:
    """The stacks that begin at each LSTM node, by its name."""
    graph = Graph(model_or_path)
    nodes: dict[str, tuple[Any, Scope]] = {}
    names: dict[int, str] = {}
    for node, scope in graph.nodes("LSTM"):
        name = node.name or next(filter(None, node.output), "LSTM")
        while name in nodes:
            name = f"{name}#{len(nodes)}"
        nodes[name] = node, scope
        names[id(node)] = name

    above: dict[str, str] = {}
    for name, (node, scope) in nodes.items():
        below = _below(graph, node, scope)
        if below is not None:
            above.setdefault(names[id(below)], name)

    uppers = set(above.values())
    return {
        name: Found(
            lambda name=name: _stack(graph, nodes, above, name),
            reverse=graph.attributes(node).get("direction") == "reverse",
            upper=name in uppers,
        )
        for name, (node, _) in nodes.items()
    }


def _stack(graph: Graph, nodes: dict[str, tuple[Any, Scope]], above: dict[str, str], name: str | None) -> LSTMParams:
    """The stack from one node up."""
    layers: dict[str, list[LSTMCellParams]] = {}
    while name is not None and name not in layers:
        layers[name] = _layer(graph, name, *nodes[name])
        graph.spend(sum(leaf.nbytes for leaf in jax.tree.leaves(layers[name])))
        name = above.get(name)
    return stacked(layers.values())


def _below(graph: Graph, node: Any, scope: Scope) -> Any:
    """The LSTM node of the same kind whose output, whole and in order, is this one's input; or None."""
    path, name = [], node.input[0]
    while (maker := scope.producers.get(name)) is not None and maker.op_type != "LSTM" and len(path) < _LONGEST_PATH:
        path.append(maker)
        name = maker.input[0] if maker.input else ""
    if maker is None or maker.op_type != "LSTM" or name != maker.output[0]:
        return None

    upper, lower = graph.attributes(node), graph.attributes(maker)
    if any(upper.get(key) != lower.get(key) for key in ("direction", "hidden_size")):
        return None
    directions = 2 if lower.get("direction") == "bidirectional" else 1
    axes: list[str] | None = ["B", "T", "D", "H"] if lower.get("layout") else ["T", "D", "B", "H"]
    for step in reversed(path):
        axes = None if axes is None else _relaid(graph, step, scope, axes, directions)
    wanted = ["B", "T"] if upper.get("layout") else ["T", "B"]
    return maker if axes == [*wanted, "H" if directions == 1 else "D*H"] else None


def _relaid(graph: Graph, node: Any, scope: Scope, axes: list[str], directions: int) -> list[str] | None:
    """The axes of an output after one step on the way to the next layer; None where that is no change of layout."""
    attributes = graph.attributes(node)
    without = [axis for axis in axes if axis != "D"]
    if node.op_type in ("Identity", "Dropout"):
        return axes
    if node.op_type == "Transpose":
        permutation = attributes.get("perm", range(len(axes))[::-1])
        return [axes[k] for k in permutation] if sorted(permutation) == list(range(len(axes))) else None
    if node.op_type == "Squeeze" and "D" in axes and directions == 1:
        squeezed = attributes["axes"] if "axes" in attributes else graph.constant(node.input[1], scope).tolist()
        return without if squeezed in ([axes.index("D")], [axes.index("D") - len(axes)]) else None
    if node.op_type == "Reshape" and "D" in axes and (directions == 1 or axes[-2:] == ["D", "H"]):
        return without if directions == 1 else [*without[:-1], "D*H"]
    return None


def _layer(graph: Graph, name: str, node: Any, scope: Scope) -> list[LSTMCellParams]:
    """The directions of one node."""
    with reading(f"LSTM node {name!r}"):
        attributes = graph.attributes(node)
        directions = _DIRECTIONS.get(attributes.get("direction", "forward"))
        if directions is None:
            raise ValueError(f"direction: expected one of {', '.join(_DIRECTIONS)}, got {attributes['direction']!r}.")
        _refuse_other_equations(node, attributes, directions)

        def weight(k: int, letter: str, axes: str, shape: tuple[int | None, ...]):
            with reading(letter):
                value = graph.constant(node.input[k], scope)
            return check_finite(letter, check_array(letter, value, axes, (directions, *shape)))

        w = weight(1, "W", "D, 4H, I", (None, None))
        hidden = max(1, attributes.get("hidden_size", w.shape[1] // 4))
        check_array("W", w, "D, 4H, I", (directions, 4 * hidden, None))
        r = weight(2, "R", "D, 4H, H", (4 * hidden, hidden))
        b = weight(3, "B", "D, 8H", (8 * hidden,)) if len(node.input) > 3 and node.input[3] else None
        return [
            cell_of(
                reorder(w[d], _TO_IFGO),
                reorder(r[d], _TO_IFGO),
                None if b is None else reorder(b[d, : 4 * hidden], _TO_IFGO),
                None if b is None else reorder(b[d, 4 * hidden :], _TO_IFGO),
            )
            for d in range(directions)
        ]


def _refuse_other_equations(node: Any, attributes: dict[str, Any], directions: int) -> None:
    """ONNX's LSTM has variants that PyTorch's equations have not."""
    if len(node.input) > 7 and node.input[7]:
        raise ValueError("P: this node has peephole weights, which let the gates see c; PyTorch's LSTM has none.")
    if "clip" in attributes:
        raise ValueError(f"clip: this node clips its gates at {attributes['clip']}; PyTorch's LSTM does not.")
    if attributes.get("input_forget", 0):
        raise ValueError("input_forget: this node couples its input and forget gates; PyTorch's LSTM does not.")
    given = attributes.get("activations", [])
    if given and [activation.lower() for activation in given] != _ACTIVATIONS * directions:
        raise ValueError(f"activations: expected Sigmoid, Tanh, Tanh in each direction, got {', '.join(given)}.")
