"""Thousands of broken files: each is read, or refused by a ValueError that names it. `.pt` files: in against_torch/."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from mutate import mutations, survives
from onnx_graphs import folded

import jaxlstm
from jaxlstm._check import check_cell_params, check_params
from jaxlstm.interop import _files
from jaxlstm.interop._onnx import from_onnx

STACK: Any = jaxlstm.init_lstm(jax.random.key(0), 2, 2, num_layers=2, bidirectional=True)
CELL: Any = jaxlstm.init_lstm_cell(jax.random.key(0), 2, 2, proj_size=1)


def read_all(path: Path) -> None:
    """Every LSTM of a file, as `jaxlstm inspect` reads them."""
    for found in _files.find(path).values():
        params = found.params()
        check_cell_params(params) if isinstance(params, jaxlstm.LSTMCellParams) else check_params(params)


@pytest.mark.parametrize(("ending", "count"), [("safetensors", 400), ("npz", 200), ("onnx", 400)])
@pytest.mark.parametrize("params", [STACK, CELL], ids=["stack", "cell"])
def test_mutated_files_end_in_one_named_error(ending, count, params, tmp_path):
    path = tmp_path / f"lstm.{ending}"
    if ending == "onnx":
        params = STACK if params is STACK else ((CELL._replace(weight_hh=np.ones((8, 2), "f"), weight_hr=None),),)
    _files.save(params, path)
    read = [survives(path, data, lambda: read_all(path)) for data in mutations(path.read_bytes(), count)]
    assert 0 < sum(read) < count / 2  # Most are broken; a flipped bit among the weights is not.


def test_mutated_graphs_end_in_one_named_error(tmp_path):
    """Of subgraphs, and of constants that are rearranged on the way to the node."""
    path = tmp_path / "lstm.onnx"
    data = folded().SerializeToString()
    read = [survives(path, mutated, lambda: from_onnx(path)) for mutated in mutations(data, 400)]
    assert 0 < sum(read) < 200
