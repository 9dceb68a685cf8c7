"""LSTM, GRU and RNN nodes of an ONNX graph, in.

ONNX keeps the directions of a layer in one node: `W [D, G*H, I]`, `R [D, G*H, H]`, `B [D, 2*G*H]` with the input's
biases before the state's, `P [D, 3H]` an LSTM's peepholes i, o, f; gates in the order i, o, f, c, or z, r, h.
"""

import functools
import math
import os
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np

from jaxlstm._types import Cell, CellParams, LSTMParams
from jaxlstm.interop import _onnx_cell
from jaxlstm.interop._cells import cell_params, check_array, check_finite, in_jax, reading, reorder, stacked
from jaxlstm.interop._found import Found, pick, with_cell
from jaxlstm.interop._onnx_cell import KINDS
from jaxlstm.interop._onnx_graph import DOMAINS, Graph, Scope

_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
_QUANTIZED = "DynamicQuantizeLSTM"
_LONGEST_PATH, _LARGEST_PROBED = 100, 2**22


def from_onnx(model_or_path: Any, node: str | None = None) -> LSTMParams:
    """Parameters of the LSTM nodes of an ONNX model, value for value; or of its GRU or RNN nodes.

    A node whose input is another's output, but for a change of layout or dtype, is the next layer of the same stack.
    Weights may be computed from constants, as quantized and half-precision files do. PyTorch's newer exporter drops
    the `weight_hr` of an LSTM with proj_size: that is refused where the graph tells the cell state's width, as it does
    unless its shapes were stripped.

    Args:
        model_or_path: a path, the bytes of a model, or an `onnx.ModelProto`. Tensors kept in files beside the model are
            read for a path only, and from below its folder only.
        node: the name of the node to begin at (of its first output, where it has none); the layers above it come
            along. None for the model's only LSTM, or its only GRU or RNN where it has no LSTM. Nodes in subgraphs
            (`If`, `Loop`) count too.

    Returns:
        `LSTMParams`, without biases where the node has none: rows of 4H are an LSTM's, 3H a GRU's, for `jaxlstm.gru`,
        H an RNN's, for `jaxlstm.fold` of `cells.RNN`. A node of direction `reverse` comes as one direction: run it on x
        flipped in time. A node's `layout`, `sequence_lens` and initial states are no parameters: tell them to
        `jaxlstm.lstm` as `batch_first`, `lengths` and `state`.

    Raises:
        OSError: no such file, or one that may not be read.
        ValueError: no ONNX model; no such LSTM, or several and none chosen; weights that are computed at run time, do
            not fit together, or are not finite; peepholes, `clip`, `input_forget` or activations that PyTorch's cells
            do not have, which `from_onnx_cell` reads; a GRU whose `linear_before_reset` is 0. The message names file
            and node.
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
    with reading(_source(model_or_path)):
        return in_jax(pick(find_onnx(model_or_path), node, "node").params())


def from_onnx_cell(model_or_path: Any, node: str | None = None) -> tuple[Cell, LSTMParams]:
    """The cell and the parameters of an ONNX model's LSTM, GRU or RNN nodes, whatever their activations.

    As `from_onnx`, and for the nodes that it refuses: peepholes, `clip`, `input_forget`, all of ONNX's activations with
    their alpha and beta. Layers are one stack where they have the same equations.

    Args:
        model_or_path: as `from_onnx`'s.
        node: as `from_onnx`'s.

    Returns:
        `(cell, params)` for `jaxlstm.fold`. The cell is `cells.LSTM`, `cells.GRU` or `cells.RNN` where it is PyTorch's,
        and one as `cells.lstm` makes them where it is not; equal nodes give equal cells. Peepholes are in `extra`.

    Raises:
        OSError, ImportError: as `from_onnx`.
        ValueError: as `from_onnx`, but for what it refuses a node's equations for; a GRU whose `linear_before_reset`
            is 0; activations that differ between directions, or lack an alpha or beta that has no default.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> import jax, jax.numpy as jnp, jaxlstm, pathlib, tempfile
    >>> from jaxlstm.interop import from_onnx_cell, to_onnx
    >>> params = jaxlstm.init_gru(jax.random.key(0), input_size=3, hidden_size=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(params, pathlib.Path(folder, "gru.onnx"))
    ...     cell, loaded = from_onnx_cell(pathlib.Path(folder, "gru.onnx"))
    >>> cell == jaxlstm.cells.GRU
    True
    >>> output, state = jaxlstm.fold(cell, loaded, jnp.ones((7, 2, 3)))
    """
    with reading(_source(model_or_path)):
        cell, params = with_cell(pick(find_onnx(model_or_path), node, "node"))
        return cell, in_jax(params)


def _source(model_or_path: Any) -> str:
    return os.fspath(model_or_path) if isinstance(model_or_path, str | os.PathLike) else "ONNX model"


def find_onnx(model_or_path: Any) -> dict[str, Found]:
    """The stacks that begin at each LSTM, GRU or RNN node, by its name; and nodes of other kinds that hold one."""
    graph = Graph(model_or_path)
    nodes: dict[str, tuple[Any, Scope]] = {}
    others: dict[str, Found] = {}
    names: dict[int, str] = {}
    for node, scope in graph.nodes():
        ours = node.op_type in KINDS and node.domain in DOMAINS
        if not ours and node.op_type != _QUANTIZED:
            continue
        name = node.name or next(filter(None, node.output), "LSTM")
        while name in nodes or name in others:
            name = f"{name}#{len(nodes) + len(others)}"
        if ours:
            nodes[name] = node, scope
            names[id(node)] = name
        else:
            refuse = functools.partial(_refuse_quantized, name)
            others[name] = Found(refuse, variant=refuse)

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
            lambda name=name: _stack(graph, nodes, above, name, _onnx_cell.refuse_other_equations)[1],
            kind=node.op_type,
            variant=lambda name=name: _stack(graph, nodes, above, name, _onnx_cell.cell_of),
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


def _stack(
    graph: Graph, nodes: dict[str, tuple[Any, Scope]], above: dict[str, str], name: str | None, equations: Callable
) -> tuple[Any, LSTMParams]:
    """What `equations` makes of a node, and the stack from it up."""
    layers: dict[str, list[CellParams]] = {}
    cells = []
    while name is not None and name not in layers:
        cell, layers[name] = _layer(graph, name, *nodes[name], equations)
        cells.append(cell)
        graph.spend(sum(leaf.nbytes for leaf in jax.tree.leaves(layers[name])))
        name = above.get(name)
    return cells[0], stacked(layers.values())


def _below(graph: Graph, node: Any, scope: Scope) -> Any:
    """The node of the same equations whose output, whole and in order, is this one's input; or None.

    What stands between the two is tried on an output of known numbers.
    """
    maker = _only_maker(node.input[0] if node.input else "", scope)
    if maker is None or _direction(maker) != _direction(node):
        return None
    try:
        upper, lower = graph.attributes(node), graph.attributes(maker)
        if _onnx_cell.equations(node, upper) != _onnx_cell.equations(maker, lower):
            return None
        hidden = lower.get("hidden_size", 0)
        if upper.get("hidden_size") != hidden or hidden < 1:
            return None
        directions = _DIRECTIONS[_direction(maker)]
        home = scope.holding(maker.output[0]) or scope
        # The graph may fix T and B.
        shape = dict(zip("BTDH" if lower.get("layout") else "TDBH", home.shape(maker.output[0]), strict=False))
        sizes = shape.get("T") or 3, shape.get("B") or 2, directions, hidden
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
    """The one recurrent node on whose output a value depends, but for constants; or None."""
    pending, seen, makers = [name], {""}, {}
    while pending and len(seen) < _LONGEST_PATH:
        name = pending.pop()
        home = scope.holding(name) if name not in seen else None
        seen.add(name)
        node = home.producers.get(name) if home is not None else None
        if node is not None and node.op_type in KINDS:
            makers[id(node)] = node
        elif node is not None:
            pending += node.input
    return next(iter(makers.values())) if len(makers) == 1 and not pending else None


def _layer(graph: Graph, name: str, node: Any, scope: Scope, equations: Callable) -> tuple[Any, list[CellParams]]:
    """What `equations` makes of one node, and its directions."""
    with reading(f"{node.op_type} node {name!r}"):
        attributes = graph.attributes(node)
        directions = _DIRECTIONS.get(attributes.get("direction", "forward"))
        if directions is None:
            raise ValueError(f"direction: expected one of {', '.join(_DIRECTIONS)}, got {attributes['direction']!r}.")
        cell = equations(node, attributes, directions)
        _refuse_lost_projection(node, scope, attributes.get("hidden_size"))
        order, gates = KINDS[node.op_type].order, KINDS[node.op_type].gates

        def weight(k: int, letter: str, axes: str, shape: tuple[int | None, ...]):
            with reading(letter):
                value = graph.constant(node.input[k], scope)
            return check_finite(letter, check_array(letter, value, axes, (directions, *shape)))

        w = weight(1, "W", f"D, {gates}H, I", (None, None))
        hidden = max(1, attributes.get("hidden_size", w.shape[1] // gates))
        check_array("W", w, f"D, {gates}H, I", (directions, gates * hidden, None))
        r = weight(2, "R", f"D, {gates}H, H", (gates * hidden, hidden))
        has_bias = len(node.input) > 3 and node.input[3]
        b = weight(3, "B", f"D, {2 * gates}H", (2 * gates * hidden,)) if has_bias else None
        p = weight(7, "P", "D, 3H", (3 * hidden,)) if _onnx_cell.has_peepholes(node) else None
        layer = []
        for d in range(directions):
            biases = (None, None) if b is None else (reorder(each, order) for each in np.split(b[d], 2))
            directed = cell_params(reorder(w[d], order), reorder(r[d], order), *biases)
            extra = None if p is None else dict(zip(_onnx_cell.PEEPHOLES, np.split(p[d], 3), strict=True))
            layer.append(directed._replace(extra=extra))
        return cell, layer


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
