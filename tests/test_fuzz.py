"""Thousands of broken files: each is read, or refused by one error that names it. `.pt` files: in against_torch/.

`MUTATIONS=3000 pytest tests/test_fuzz.py` tries so many of each.
"""

import itertools
from typing import Any

import h5py
import jax
import numpy as np
import pytest
from mutate import COUNT, count_survivors
from onnx_graphs import folded

import jaxlstm
from jaxlstm.interop import _files

# Keras's own `__array__` is older than numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

STACK: Any = jaxlstm.init_lstm(jax.random.key(0), 2, 2, num_layers=2, bidirectional=True)
GRU: Any = jaxlstm.init_gru(jax.random.key(0), 2, 2)
CELL: Any = jaxlstm.init_lstm_cell(jax.random.key(0), 2, 2, proj_size=1)


ENDINGS = ("safetensors", "npz", "onnx", "h5", "keras")
FILES = [*itertools.product(ENDINGS, ("stack", "cell")), ("onnx", "gru"), ("keras", "gru")]


@pytest.mark.usefixtures("keras")
@pytest.mark.parametrize(("ending", "kind"), FILES)
def test_mutated_files_end_in_one_named_error(ending, kind, tmp_path):
    params = {"stack": STACK, "cell": CELL, "gru": GRU}[kind]
    path = tmp_path / f"lstm.{ending}"
    if ending not in ("safetensors", "npz") and params is CELL:
        params = ((CELL._replace(weight_hh=np.ones((8, 2), "f"), weight_hr=None),),)
    _files.save(params, path)
    # Most are broken; a flipped bit among the weights is not, unless a sum tells.
    assert count_survivors(path) < COUNT * 0.7


def test_mutated_graphs_end_in_one_named_error(tmp_path):
    """Of subgraphs, and of constants that are rearranged on the way to the node."""
    path = tmp_path / "lstm.onnx"
    path.write_bytes(folded().SerializeToString())
    assert 0 < count_survivors(path) < COUNT / 2


def test_mutated_chunks_end_in_one_named_error(tmp_path):
    path = tmp_path / "lstm.h5"
    with h5py.File(path, "w") as file:
        for name, shape in (("kernel", (3, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,))):
            array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            file.create_dataset(f"lstm/lstm/{name}:0", data=array, compression="gzip", shuffle=True)
    assert 0 < count_survivors(path) < COUNT * 0.7
