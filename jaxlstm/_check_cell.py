"""Checks at the public door of what depends on the cell: its parameters, its states and its rule."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlstm._check import as_array, check_float, check_int, check_shape, refuse, show
from jaxlstm._names import suffix
from jaxlstm._types import AXES, REQUIRED, Cell, CellParams, HiddenState, LSTMState, axes_of
from jaxlstm.cells import LSTM


class Sizes(NamedTuple):
    """What a parameter tree tells of its layers: L, D, I, H and P."""

    num_layers: int
    num_directions: int
    input_size: int
    hidden_size: int
    output_size: int


def check_cell(cell: Any) -> None:
    """A `Cell`: its kinds, and that it is hashable."""
    expected, remedy = "a jaxlstm.Cell", "Make one: jaxlstm.Cell(rule, num_gates)."
    if not isinstance(cell, Cell):
        refuse("cell", expected, type(cell).__name__, remedy, TypeError)
    check_int("cell.num_gates", cell.num_gates, 1)
    if not callable(cell.rule):
        refuse("cell.rule", "a function of (extra, state, x_sums, h_sums)", repr(cell.rule), remedy, TypeError)
    fields = getattr(cell.state, "_fields", ())
    if not isinstance(cell.state, type) or fields[:1] != ("h",):
        refuse("cell.state", "a NamedTuple type whose first field is h", repr(cell.state), remedy, TypeError)
    try:
        hash(cell)
    except TypeError:
        refuse("cell.rule", "a hashable function", repr(cell.rule), "It is static under jit.", TypeError)


def check_cell_params(
    params: Any, name: str = "params", input_size: int | None = None, tail: str = "", cell: Cell = LSTM
) -> Sizes:
    """One cell's parameters: their kinds, and that their shapes fit together. `tail` is the names' `_l0_reverse`."""
    if not isinstance(params, CellParams):
        remedy = _of_module(params) or (
            "Make it with init_lstm_cell, or pick one cell of a stack: params[layer][direction]."
        )
        refuse(name, "LSTMCellParams" if cell == LSTM else "CellParams", type(params).__name__, remedy, TypeError)
    for field in AXES:
        leaf = getattr(params, field)
        if leaf is None and field in REQUIRED:
            refuse(f"{name}.{field}{tail}", "an array", "None", "Only biases and weight_hr may be absent.", TypeError)
        if leaf is not None:
            if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
                refuse(f"{name}.{field}{tail}", "an array", type(leaf).__name__, "Use jnp.asarray on it.", TypeError)
            check_float(f"{name}.{field}{tail}", leaf)
    if (params.bias_ih is None) != (params.bias_hh is None):
        remedy = "For a single bias b use bias_ih=b, bias_hh=0."
        refuse(f"{name}.bias_ih{tail}, bias_hh{tail}", "both or neither", "one", remedy)

    weight_ih, G = params.weight_ih, cell.num_gates
    _refuse_another_cells(params, f"{name}.weight_ih{tail}", G)
    if weight_ih.ndim != 2 or weight_ih.shape[0] % G:
        gates = "the gates i, f, g, o, H each" if cell == LSTM else f"the {G} gates of the cell {cell.name}, H each"
        refuse(f"{name}.weight_ih{tail}", f"[{axes_of('weight_ih', G)}]", show(weight_ih.shape), f"Rows are {gates}.")
    hidden = weight_ih.shape[0] // G
    input_size = weight_ih.shape[1] if input_size is None else input_size
    output = hidden if params.weight_hr is None else params.weight_hr.shape[0]
    sizes = {"G*H": G * hidden, "I": input_size, "H": hidden, "P": output}
    fit = "All parameters of a cell must agree in H, P and I."
    if cell != LSTM:
        fit += f" The cell {cell.name} has G = {G} gates."
    for field in sorted(AXES, key=lambda field: field != "weight_hr"):  # First the one that P was taken from.
        leaf = getattr(params, field)
        if leaf is not None:
            check_shape(f"{name}.{field}{tail}", leaf, axes_of(field, G), [sizes[axis] for axis in AXES[field]], fit)
        if leaf is not None and field == "weight_hr" and not 0 < output < hidden:
            refuse(f"{name}.weight_hr{tail}", f"0 < P < H = {hidden}", f"P = {output}", "Leave it None for P = H.")
    for leaf in jax.tree.leaves(params.extra):
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            refuse(
                f"{name}.extra{tail}", "a pytree of arrays", type(leaf).__name__, "Use jnp.asarray on it.", TypeError
            )
    return Sizes(1, 1, input_size, hidden, output)


def _of_module(params: Any) -> str | None:
    """How a module's weights are had, if it is a module: PyTorch's, or Flax's, neither of which is imported here."""
    packages = {kind.__module__.split(".")[0] for kind in type(params).__mro__}
    if not packages & {"torch", "flax"}:
        return None
    return "A module's weights are jaxlstm.interop.from_torch(module); of a Linen module, from_torch(variables)."


def _refuse_another_cells(params: CellParams, name: str, num_gates: int) -> None:
    """Refuse a GRU's parameters for an LSTM, and the other way round: rows / H tells them apart."""
    rows, (weight_hh, weight_hr) = params.weight_ih.shape[:1], (params.weight_hh, params.weight_hr)
    sized = weight_hh if weight_hr is None else weight_hr
    if rows != weight_hh.shape[:1] or sized.ndim != 2 or 0 in sized.shape:
        return
    takers = {3: ("a GRU's", "jaxlstm.gru", "GRU"), 4: ("an LSTM's", "jaxlstm.lstm", "LSTM")}
    given, rest = divmod(rows[0], sized.shape[1])
    if given != num_gates and given in takers and not rest:
        whose, function, cell = takers[given]
        mend = f"These are {whose}: {function} takes them, and explain and fold with cell=jaxlstm.cells.{cell}."
        refuse(name, f"[{axes_of('weight_ih', num_gates)}]", f"{given}H rows: {show(params.weight_ih.shape)}", mend)


def check_params(params: Any, cell: Cell = LSTM) -> Sizes:
    """A stack's parameters: a tuple over layers of a tuple over directions, of shapes that fit together."""
    of_cell = "LSTMCellParams" if cell == LSTM else "CellParams"
    maker = "init_lstm" if cell == LSTM else "init_fold"
    remedy = _of_module(params) or f"Make it with {maker}; one cell as a stack is ((cell,),)."
    if isinstance(params, Mapping):
        named = 'params["params"]' if "params" in params else "params"
        remedy = f"Leaves under PyTorch's names become LSTMParams by jaxlstm.interop.from_torch({named})."
    if isinstance(params, CellParams) or not isinstance(params, tuple | list) or not params:
        expected = (
            f"LSTMParams, a tuple over layers of a tuple over directions{'' if cell == LSTM else ' of CellParams'}"
        )
        refuse("params", expected, type(params).__name__, remedy, TypeError)
    first: Sizes | None = None
    for layer, cells in enumerate(params):
        name = f"params[{layer}]"
        if isinstance(cells, CellParams) or not isinstance(cells, tuple | list) or len(cells) not in (1, 2):
            refuse(name, f"a tuple over 1 or 2 directions of {of_cell}", type(cells).__name__, remedy, TypeError)
        if first is not None and len(cells) != first.num_directions:
            refuse(name, f"D = {first.num_directions} directions, as layer 0", str(len(cells)), "Layers share D.")
        for direction, cell_params in enumerate(cells):
            input_size = None
            if first is not None:
                input_size = first.input_size if layer == 0 else len(cells) * first.output_size
            sizes = check_cell_params(cell_params, f"{name}[{direction}]", input_size, suffix(layer, direction), cell)
            if first is None:
                first = sizes._replace(num_layers=len(params), num_directions=len(cells))
            elif (sizes.hidden_size, sizes.output_size) != (first.hidden_size, first.output_size):
                refuse(
                    f"{name}[{direction}]",
                    f"H = {first.hidden_size}, P = {first.output_size}, as layer 0",
                    f"H = {sizes.hidden_size}, P = {sizes.output_size}",
                    "A stack has one size; for layers of different sizes, call lstm or lstm_cell for each.",
                )
    assert first is not None
    return first


def check_state(
    state: Any, leading: str, lead: tuple[int, ...], sizes: Sizes, cell: Cell = LSTM, argument: str = "state"
) -> Any:
    """A state of the cell's type whose arrays' first axes are `lead`, lettered `leading` ("L*D, B, ")."""
    fields, kind = cell.state._fields, cell.state.__name__
    if not isinstance(state, tuple | list) or len(state) != len(fields):
        names = ", ".join(fields) + ("," if len(fields) == 1 else "")
        order = "h comes first, c second." if cell.state is LSTMState else f"It is the state of the cell {cell.name}."
        if cell.state is HiddenState:
            order += " It is h alone: gru and gru_cell take h itself, fold takes (h,)."
        refuse(argument, f"{kind}({', '.join(fields)}) or a tuple ({names})", type(state).__name__, order, TypeError)
    widths = {"h": ("P", sizes.output_size)} | ({"c": ("H", sizes.hidden_size)} if cell.state is LSTMState else {})
    for field, value in zip(fields, state, strict=True):
        if field in widths and isinstance(value, cell.state):
            results = "(output, state)" if "L*D" in leading else "(state, output)"
            mend = f"A call returns {results}, and a state is ({', '.join(fields)})."
            refuse(f"{argument}.{field}", "an array", kind, mend, TypeError)
    mend = "States are not broadcast over the batch, and batch_first does not move their axes."

    def check(field: str, value: Any) -> jax.Array:
        name = f"{argument}.{field}"
        value = as_array(name, value)
        if field in widths:
            letter, width = widths[field]
            check_float(name, value)
            check_shape(name, value, f"{leading}{letter}", (*lead, width), mend)
        elif tuple(value.shape[: len(lead)]) != lead:
            refuse(name, f"[{leading}...] = [{', '.join(map(str, lead))}, ...]", show(value.shape), mend)
        return value

    h, *others = state
    checked = (
        # Those of an LSTM are arrays, whatever they come as; another cell's may be trees of arrays.
        check(field, value) if field in widths else jax.tree.map(functools.partial(check, field), value)
        for field, value in zip(fields[1:], others, strict=True)
    )
    return cell.state(check("h", h), *checked)


def check_reset_state(state: Any, leading: str, lead: tuple[int, ...], sizes: Sizes, cell: Cell) -> Any:
    """A state to begin anew from: one for each row, as a state is, or one for all rows, without B."""
    shared = isinstance(state, tuple | list) and bool(state) and np.ndim(state[0]) == 2
    if shared and len(lead) == 2:
        leading, lead = leading.removesuffix("B, "), lead[:1]
    return check_state(state, leading, lead, sizes, cell, "reset_state")


def check_rule(cell: Cell, extra: Any, state: Any, hidden_size: int, *, projected: bool) -> tuple[Any, Any]:
    """That the rule gives back, for one row, a state like the one that it got, and an output `[H]`.

    Args:
        cell: whose rule it is.
        extra: of one layer's parameters.
        state: shapes and dtypes of one row.
        hidden_size: H.
        projected: whether W_hr y takes the place of h.

    Returns:
        The rule's jaxpr, and the structure of its result.
    """
    name, dtype = f"the rule of the cell {cell.name}", state.h.dtype
    sums = jax.ShapeDtypeStruct((cell.num_gates, hidden_size), dtype)
    traced, out = jax.make_jaxpr(cell.rule, return_shape=True)(extra, state, sums, sums)
    if not isinstance(out, tuple) or len(out) != 2:
        refuse(
            name, "(state, y), the state after the step and the output", type(out).__name__, "Return both.", TypeError
        )
    after, y = out
    if jax.tree.structure(state) != jax.tree.structure(after):
        mend = "It must have the structure of the one before."
        refuse(f"the state from {name}", _show_tree(state), _show_tree(after), mend, TypeError)
    mend = "It must have the shape and dtype of the one before."
    wanted = jax.tree_util.tree_leaves_with_path(state)
    for (path, before), leaf in zip(wanted, jax.tree.leaves(after), strict=True):
        if projected and path == wanted[0][0]:
            continue
        if (before.shape, before.dtype) != (leaf.shape, leaf.dtype):
            field = f"state{jax.tree_util.keystr(path)} from {name}"
            refuse(field, f"{before.dtype}{show(before.shape)}", f"{leaf.dtype}{show(leaf.shape)}", mend)
    if not hasattr(y, "shape") or (y.shape, y.dtype) != ((hidden_size,), dtype):
        got = f"{y.dtype}{show(y.shape)}" if hasattr(y, "shape") else type(y).__name__
        refuse(f"y from {name}", f"[H] = {dtype}[{hidden_size}]", got, "It is the output of one row and step.")
    return traced, jax.tree.structure(out)


def _show_tree(tree: Any) -> str:
    """A NamedTuple by its name and fields; what is in them only where it is no array."""
    if not isinstance(tree, tuple):
        return type(tree).__name__
    names = getattr(tree, "_fields", None)
    if names is None:
        return f"a tuple of {len(tree)}"
    fields = zip(names, tree, strict=True)
    inside = (name if hasattr(field, "shape") else f"{name}={jax.tree.structure(field)}" for name, field in fields)
    return f"{type(tree).__name__}({', '.join(inside)})"


def default_state(cell: Cell, lead: tuple, sizes: Sizes, dtype: Any) -> Any:
    """Zeros, h `[*lead, P]` and other fields `[*lead, H]`."""
    others = [jnp.zeros((*lead, sizes.hidden_size), dtype) for _ in cell.state._fields[1:]]
    return cell.state(jnp.zeros((*lead, sizes.output_size), dtype), *others)
