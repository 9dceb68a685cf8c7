"""A stack as an ONNX model, out."""

import os

import numpy as np

from jaxlstm._check_cell import Sizes, check_params
from jaxlstm._types import LSTMCellParams, LSTMParams
from jaxlstm._write import replacing
from jaxlstm.interop._cells import need, reorder, single_precision, unprojected

_TO_IOFC = (0, 3, 1, 2)


def to_onnx(params: LSTMParams, path: str | os.PathLike, *, batch_first: bool = False) -> None:
    """Write an ONNX model of the whole stack, which ONNX Runtime runs with any batch and any time.

    Its inputs: `x [T, B, I]`, and three that may be left out: `sequence_lens` int32 `[B]`, `h_0` and `c_0`
    `[L*D, B, H]`. Its outputs: `output [T, B, D*H]`, `h_n` and `c_n` `[L*D, B, H]`. All mean what they mean to
    `jaxlstm.lstm`, at length 0 too, but for this: one length or state given for B > 1 is broadcast, a length beyond T
    counts as T, and an empty batch (B = 0) crashes ONNX Runtime 1.32.

    An input that may be left out has its default in the model, as an initializer of its name; ONNX Runtime logs a
    warning for each of the three, because it can't fold them into constants. Of the converters to float16, ONNX
    Runtime's (`onnxruntime.transformers.float16`) takes the file as it is. So does onnxconverter-common 1.16, but with
    `keep_io_types=True` it converts every default of an input and leaves the input as it was, whatever the graph: take
    h_0 and c_0 out of the model's initializers first; they are then to be given.

    Args:
        params: of a stack, float32, bfloat16 or float16. ONNX Runtime's LSTM computes in float32 only, so the file's
            weights are float32, the same in value.
        path: the file. It appears whole or not at all, and replaces one that was there.
        batch_first: x is `[B, T, I]` and output is `[B, T, D*H]`; states keep their axes.

    Raises:
        OSError: a place that can't be written.
        ValueError: a projection, which ONNX's LSTM has not; float64; parameters that `jaxlstm.lstm` would refuse.
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
    onnx, parser = (need(module, "onnx", "to_onnx") for module in ("onnx", "onnx.parser"))
    params = single_precision(unprojected(params, "ONNX"), "ONNX Runtime's LSTM")
    sizes = check_params(params)
    model = parser.parse_model(_text(sizes, bias=params[0][0].bias_ih is not None, batch_first=batch_first))
    for node in model.graph.node:  # Converters tell nodes apart by their names.
        node.name = node.name or node.output[0]
    arrays = _defaults(sizes) | _weights(params)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _text(sizes: Sizes, *, bias: bool, batch_first: bool) -> str:
    """The model without its arrays, in ONNX's own text format (https://onnx.ai/onnx/repo-docs/Syntax.html)."""
    layers, directions, width, hidden, _ = sizes
    states, out = layers * directions, directions * hidden
    outer = "B, T" if batch_first else "T, B"
    turned = "Transpose <perm = [1, 0, 2]>" if batch_first else "Identity"
    direction = "bidirectional" if directions == 2 else "forward"
    each = range(layers)

    def names(stem: str) -> str:
        return ", ".join(f"{stem}_l{k}" for k in each)

    stack = "".join(
        f"""
  [lstm_l{k}] y_l{k}, h_n_l{k}, c_n_l{k} = LSTM <hidden_size = {hidden}, direction = "{direction}"> (
    x_l{k}, W_l{k}, R_l{k}, {f"B_l{k}" if bias else '""'}, lengths, h_0_l{k}, c_0_l{k})
  rows_l{k} = Transpose <perm = [0, 2, 1, 3]> (y_l{k})
  x_l{k + 1} = Reshape (rows_l{k}, joined)"""
        for k in each
    )
    # The optional inputs' defaults have a batch of 1, so that theirs can't be called B.
    return f"""<ir_version: 8, opset_import: ["" : 17], producer_name: "jaxlstm">
lstm (float[{outer}, {width}] x, int32[B_or_1] sequence_lens,
      float[{states}, B_or_1, {hidden}] h_0, float[{states}, B_or_1, {hidden}] c_0)
  => (float[{outer}, {out}] output, float[{states}, B, {hidden}] h_n, float[{states}, B, {hidden}] c_n)
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
  h_0_all = Expand (h_0, state_shape)
  c_0_all = Expand (c_0, state_shape)
  parts = Constant <value = int64[{layers}] {{{", ".join([str(directions)] * layers)}}}> ()
  {names("h_0")} = Split <axis = 0> (h_0_all, parts)
  {names("c_0")} = Split <axis = 0> (c_0_all, parts)
  joined = Constant <value = int64[3] {{0, 0, {out}}}> ()
{stack}
  output = {turned} (x_l{layers})
  h_n_run = Concat <axis = 0> ({names("h_n")})
  c_n_run = Concat <axis = 0> ({names("c_n")})
  zero = Constant <value = int32 {{0}}> ()
  empty = Equal (lengths, zero)
  row_axis = Constant <value = int64[2] {{0, 2}}> ()
  empty_rows = Unsqueeze (empty, row_axis)
  h_n = Where (empty_rows, h_0_all, h_n_run)
  c_n = Where (empty_rows, c_0_all, c_n_run)
}}"""


def _defaults(sizes: Sizes) -> dict[str, np.ndarray]:
    """What the optional inputs are when left out: every step counts, and states begin at zero."""
    state = np.zeros((sizes.num_layers * sizes.num_directions, 1, sizes.hidden_size), np.float32)
    return {"sequence_lens": np.array([np.iinfo(np.int32).max], np.int32), "h_0": state, "c_0": state}


def _weights(params: LSTMParams) -> dict[str, np.ndarray]:
    """The arrays of every LSTM node: `W [D, 4H, I]`, `R [D, 4H, H]`, `B [D, 8H]`."""
    arrays = {}
    for k, cells in enumerate(params):
        arrays[f"W_l{k}"] = np.stack([reorder(cell.weight_ih, _TO_IOFC) for cell in cells])
        arrays[f"R_l{k}"] = np.stack([reorder(cell.weight_hh, _TO_IOFC) for cell in cells])
        if cells[0].bias_ih is not None:
            arrays[f"B_l{k}"] = np.stack([_both_biases(cell) for cell in cells])
    return arrays


def _both_biases(cell: LSTMCellParams) -> np.ndarray:
    return np.concatenate([reorder(bias, _TO_IOFC) for bias in (cell.bias_ih, cell.bias_hh)])
