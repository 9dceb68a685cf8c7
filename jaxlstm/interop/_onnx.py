"""LSTM nodes of an ONNX graph, in.

ONNX keeps the directions of a layer in one node: `W [D, 4H, I]`, `R [D, 4H, H]`, `B [D, 8H]` with the input's biases
before the state's, and gates in the order i, o, f, c.
"""

import math
import os
from typing import Any, NoReturn

import jax
import numpy as np

from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm.interop._cells import cell_of, check_array, check_finite, in_jax, reading, reorder, stacked
from jaxlstm.interop._found import Found, pick
from jaxlstm.interop._onnx_graph import DOMAINS, Graph, Scope

_TO_IFGO = (0, 2, 3, 1)
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_ACTIVATIONS = ["sigmoid", "tanh", "tanh"]
_QUANTIZED = "DynamicQuantizeLSTM"
_LONGEST_PATH, _LARGEST_PROBED = 100, 2**22


def from_onnx(model_or_path: Any, node: str | None = None) -> LSTMParams:
    """Parameters of the LSTM nodes of an ONNX model, value for value.

    A node whose input is another's output, but for a change of layout or dtype, is the next layer of the same stack.
    Weights may be computed from constants, as quantized and half-precision files do. PyTorch's newer exporter drops
    the `weight_hr` of an LSTM with proj_size: that is refused where the graph tells the cell state's width, as it does
    unless its shapes were stripped.

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
        return in_jax(pick(find_onnx(model_or_path), node, "node").params())


def find_onnx(model_or_path: Any) -> dict[str, Found]:
    """The stacks that begin at each LSTM node, by its name; and those nodes of other kinds that hold an LSTM."""
    graph = Graph(model_or_path)
    nodes: dict[str, tuple[Any, Scope]] = {}
    others: dict[str, Found] = {}
    names: dict[int, str] = {}
    for node, scope in graph.nodes():
        ours = node.op_type == "LSTM" and node.domain in DOMAINS
        if not ours and node.op_type != _QUANTIZED:
            continue
        name = node.name or next(filter(None, node.output), "LSTM")
        while name in nodes or name in others:
            name = f"{name}#{len(nodes) + len(others)}"
        if ours:
            nodes[name] = node, scope
            names[id(node)] = name
        else:
            others[name] = Found(lambda name=name: _refuse_quantized(name))

    above: dict[str, str] = {}
    for name, (node, scope) in nodes.items():
        below = _below(graph, node, scope)
        if below is not None:
            above.setdefault(names[id(below)], name)

    if not nodes:  # Then whichever is picked, that is why.
        others = {name: each._replace(upper=k > 0) for k, (name, each) in enumerate(others.items())}
    uppers = set(above.values())
    return others | {
        name: Found(
            lambda name=name: _stack(graph, nodes, above, name),
            reverse=_direction(node) == "reverse",
            upper=name in uppers,
        )
        for name, (node, _) in nodes.items()
    }


def _refuse_quantized(name: str) -> NoReturn:
    raise ValueError(
        f"node {name!r}: a {_QUANTIZED}, whose weights ONNX Runtime has rounded to 8 bits in a layout of its own. Give "
        "the model that it was made from."
    )


def _direction(node: Any) -> str:
    given = [attribute.s.decode() for attribute in node.attribute if attribute.name == "direction"]
    return given[0] if given else "forward"


def _stack(graph: Graph, nodes: dict[str, tuple[Any, Scope]], above: dict[str, str], name: str | None) -> LSTMParams:
    """The stack from one node up."""
    layers: dict[str, list[LSTMCellParams]] = {}
    while name is not None and name not in layers:
        layers[name] = _layer(graph, name, *nodes[name])
        graph.spend(sum(leaf.nbytes for leaf in jax.tree.leaves(layers[name])))
        name = above.get(name)
    return stacked(layers.values())


def _below(graph: Graph, node: Any, scope: Scope) -> Any:
    """The LSTM node of the same kind whose output, whole and in order, is this one's input; or None.

    What stands between the two is tried on an output of known numbers.
    """
    maker = _only_maker(node.input[0] if node.input else "", scope)
    if maker is None or _direction(maker) != _direction(node):
        return None
    try:
        upper, lower = graph.attributes(node), graph.attributes(maker)
        hidden = lower.get("hidden_size", 0)
        if upper.get("hidden_size") != hidden or hidden < 1:
            return None
        directions = _DIRECTIONS[_direction(maker)]
        home = scope.holding(maker.output[0]) or scope
        # T and B may stand written in the graph.
        told = dict(zip("BTDH" if lower.get("layout") else "TDBH", home.shape(maker.output[0]), strict=False))
        sizes = told.get("T") or 3, told.get("B") or 2, directions, hidden
        if math.prod(sizes) > _LARGEST_PROBED:
            return None
        # [T, B, D, H] of what an LSTM may give, and what even half precision keeps.
        steps = np.random.default_rng(0).integers(-255, 256, sizes).astype(np.float32) / 256
        output = steps.swapaxes(0, 1) if lower.get("layout") else steps.swapaxes(1, 2)
        got = graph.probed(node.input[0], scope, {(id(home), maker.output[0]): output})
    except Exception:  # Whatever it is, it is no change of layout.
        return None
    joined = steps.reshape(*sizes[:2], -1)
    return maker if np.array_equal(got, joined.swapaxes(0, 1) if upper.get("layout") else joined) else None


def _only_maker(name: str, scope: Scope) -> Any:
    """The one LSTM node on whose output a value depends, but for constants; or None."""
    pending, seen, makers = [name], {""}, {}
    while pending and len(seen) < _LONGEST_PATH:
        name = pending.pop()
        home = scope.holding(name) if name not in seen else None
        seen.add(name)
        node = home.producers.get(name) if home is not None else None
        if node is not None and node.op_type == "LSTM":
            makers[id(node)] = node
        elif node is not None:
            pending += node.input
    return next(iter(makers.values())) if len(makers) == 1 and not pending else None


def _layer(graph: Graph, name: str, node: Any, scope: Scope) -> list[LSTMCellParams]:
    """The directions of one node."""
    with reading(f"LSTM node {name!r}"):
        attributes = graph.attributes(node)
        directions = _DIRECTIONS.get(attributes.get("direction", "forward"))
        if directions is None:
            raise ValueError(f"direction: expected one of {', '.join(_DIRECTIONS)}, got {attributes['direction']!r}.")
        _refuse_other_equations(node, attributes, directions)
        _refuse_lost_projection(node, scope, attributes.get("hidden_size"))

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


def _refuse_lost_projection(node: Any, scope: Scope, hidden: int | None) -> None:
    """PyTorch's newer exporter drops `weight_hr`: its H is then P, but the cell state is as wide as it was."""
    for name in (*node.input[6:7], *node.output[2:3]):
        home = scope.holding(name) if name else None
        shape = home.shape(name) if home is not None else []
        if hidden is not None and len(shape) == 3 and shape[2] not in (None, hidden):
            raise ValueError(
                f"{name!r}: expected a cell state of hidden_size {hidden}, got {shape[2]}. So exports PyTorch an LSTM "
                "with proj_size, and loses its weight_hr: read its state_dict instead."
            )


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
