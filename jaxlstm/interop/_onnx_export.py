"""A stack as an ONNX model, out."""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxlstm._check_cell import Sizes, check_params
from jaxlstm._types import Cell, CellParams, LSTMParams
from jaxlstm._write import replacing
from jaxlstm.interop._cells import cell_of_params, check_unprojected, need, reorder, single_precision
from jaxlstm.interop._onnx_cell import KINDS, PEEPHOLES, attributes_of

_OF_GATES = {kind.gates: name for name, kind in KINDS.items()}


def to_onnx(
    params: LSTMParams, path: str | os.PathLike, *, batch_first: bool = False, cell: Cell | None = None
) -> None:
    """Write an ONNX model of the whole stack, which ONNX Runtime runs with any batch and any time.

    Its inputs: `x [T, B, I]`, and three that may be left out: `sequence_lens` int32 `[B]`, `h_0` and `c_0`
    `[L*D, B, H]`. Its outputs: `output [T, B, D*H]`, `h_n` and `c_n` `[L*D, B, H]`; a GRU and an RNN have no c. All
    mean what they mean to `jaxlstm.lstm`, at length 0 too, but for this: one length or state given for B > 1 is
    broadcast, a length beyond T counts as T, and an empty batch (B = 0) crashes ONNX Runtime 1.32.

    An input that may be left out has its default in the model, as an initializer of its name; ONNX Runtime logs a
    warning for each of the three, because it can't fold them into constants. Of the converters to float16, ONNX
    Runtime's (`onnxruntime.transformers.float16`) takes the file as it is. So does onnxconverter-common 1.16, but with
    `keep_io_types=True` it converts every default of an input and leaves the input as it was, whatever the graph: take
    h_0 and c_0 out of the model's initializers first; they are then to be given.

    Args:
        params: of a stack, float32, bfloat16 or float16: an LSTM's, a GRU's or an RNN's by their rows. ONNX Runtime's
            LSTM computes in float32 only, so the file's weights are float32, the same in value.
        path: the file. It appears whole or not at all, and replaces one that was there.
        batch_first: x is `[B, T, I]` and output is `[B, T, D*H]`; states keep their axes.
        cell: what runs the parameters, where it is none of PyTorch's: by `cells.lstm` with peepholes, coupled gates, a
            clip and activations that ONNX has, or by `from_onnx_cell`.

    Raises:
        OSError: a place that can't be written.
        ValueError: a projection, which ONNX's LSTM has not; float64; parameters that do not fit together; a cell that
            ONNX has no node for.
        TypeError: parameters that are no stack.
        ImportError: onnx is missing.

    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html

    >>> import jax, jaxlstm, pathlib, tempfile
    >>> from jaxlstm.interop import to_onnx
    >>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(params, pathlib.Path(folder, "lstm.onnx"))

    Run it: `onnxruntime.InferenceSession("lstm.onnx").run(None, {"x": x, "sequence_lens": lengths})`.
    """
    onnx, parser = (need(module, "to_onnx", "'jaxlstm[onnx]'") for module in ("onnx", "onnx.parser"))
    params = single_precision(check_unprojected(params, "ONNX", cell), "ONNX Runtime's LSTM")
    cell = cell_of_params(params) if cell is None else cell
    sizes = check_params(params, cell)
    model = parser.parse_model(_text(cell, params, sizes, batch_first=batch_first))
    for node in model.graph.node:  # Converters tell nodes apart by their names.
        node.name = node.name or node.output[0]
    arrays = _defaults(cell, sizes) | _weights(params, KINDS[_OF_GATES[cell.num_gates]].order)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _text(cell: Cell, params: LSTMParams, sizes: Sizes, *, batch_first: bool) -> str:
    """The model without its arrays, in ONNX's own text format (https://onnx.ai/onnx/repo-docs/Syntax.html)."""
    layers, directions, width, hidden, _ = sizes
    attributes = attributes_of(cell, directions) | {
        "hidden_size": hidden,
        "direction": "bidirectional" if directions == 2 else "forward",
    }
    options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in attributes.items())
    states, out = layers * directions, directions * hidden
    fields, each = cell.state._fields, range(layers)
    outer = "B, T" if batch_first else "T, B"
    turned = "Transpose <perm = [1, 0, 2]>" if batch_first else "Identity"

    def listed(pattern: str, over: Iterable[Any] = fields) -> str:
        return ", ".join(pattern.format(each) for each in over)

    def node(k: int) -> str:
        inputs = [f"x_l{k}", f"W_l{k}", f"R_l{k}", f"B_l{k}" if params[0][0].bias_ih is not None else '""', "lengths"]
        inputs += [f"{field}_0_l{k}" for field in fields] + ([f"P_l{k}"] if params[0][0].extra else [])
        return f"""
  [{cell.name}_l{k}] y_l{k}, {listed(f"{{}}_n_l{k}")} = {_OF_GATES[cell.num_gates]} <{options}> ({", ".join(inputs)})
  rows_l{k} = Transpose <perm = [0, 2, 1, 3]> (y_l{k})
  x_l{k + 1} = Reshape (rows_l{k}, joined)"""

    def lines(pattern: Callable[[str], str]) -> str:
        return "".join(f"\n  {pattern(field)}" for field in fields)

    # The optional inputs' defaults have a batch of 1, so that theirs can't be called B.
    return f"""<ir_version: 8, opset_import: ["" : 17], producer_name: "jaxlstm">
{cell.name} (float[{outer}, {width}] x, int32[B_or_1] sequence_lens,
      {listed(f"float[{states}, B_or_1, {hidden}] {{}}_0")})
  => (float[{outer}, {out}] output, {listed(f"float[{states}, B, {hidden}] {{}}_n")})
{{
  x_l0 = {turned} (x)
  steps_int64 = Shape <start = 0, end = 1> (x_l0)
  steps = Cast <to = 6> (steps_int64)
  batch = Shape <start = 1, end = 2> (x_l0)
  row_lengths = Expand (sequence_lens, batch)
  lengths = Min (row_lengths, steps)
  states = Constant <value = int64[1] {{{states}}}> ()
  hidden = Constant <value = int64[1] {{{hidden}}}> ()
  state_shape = Concat <axis = 0> (states, batch, hidden)
  parts = Constant <value = int64[{layers}] {{{", ".join([str(directions)] * layers)}}}> ()
  {lines(lambda s: f"{s}_0_all = Expand ({s}_0, state_shape)")}
  {lines(lambda s: f"{listed(f'{s}_0_l{{}}', each)} = Split <axis = 0> ({s}_0_all, parts)")}
  joined = Constant <value = int64[3] {{0, 0, {out}}}> ()
{"".join(map(node, each))}
  output = {turned} (x_l{layers})
  zero = Constant <value = int32 {{0}}> ()
  empty = Equal (lengths, zero)
  row_axis = Constant <value = int64[2] {{0, 2}}> ()
  empty_rows = Unsqueeze (empty, row_axis)
  {lines(lambda s: f"{s}_n_run = Concat <axis = 0> ({listed(f'{s}_n_l{{}}', each)})")}
  {lines(lambda s: f"{s}_n = Where (empty_rows, {s}_0_all, {s}_n_run)")}
}}"""


def _defaults(cell: Cell, sizes: Sizes) -> dict[str, np.ndarray]:
    """What the optional inputs are when left out: every step counts, and states begin at zero."""
    state = np.zeros((sizes.num_layers * sizes.num_directions, 1, sizes.hidden_size), np.float32)
    counts = np.array([np.iinfo(np.int32).max], np.int32)
    return {"sequence_lens": counts} | {f"{field}_0": state for field in cell.state._fields}


def _weights(params: LSTMParams, order: Sequence[int]) -> dict[str, np.ndarray]:
    """The arrays of every node: `W [D, G*H, I]`, `R [D, G*H, H]`, `B [D, 2*G*H]`, `P [D, 3H]`.

    Args:
        params: of a stack.
        order: of ONNX's gates in PyTorch's.
    """
    back = [order.index(k) for k in range(len(order))]
    arrays = {}
    for k, cells in enumerate(params):
        arrays[f"W_l{k}"] = np.stack([reorder(cell.weight_ih, back) for cell in cells])
        arrays[f"R_l{k}"] = np.stack([reorder(cell.weight_hh, back) for cell in cells])
        if cells[0].bias_ih is not None:
            arrays[f"B_l{k}"] = np.stack([_both_biases(cell, back) for cell in cells])
        if cells[0].extra:
            arrays[f"P_l{k}"] = np.stack([np.concatenate([cell.extra[name] for name in PEEPHOLES]) for cell in cells])
    return arrays


def _both_biases(cell: CellParams, back: Sequence[int]) -> np.ndarray:
    return np.concatenate([reorder(bias, back) for bias in (cell.bias_ih, cell.bias_hh)])
