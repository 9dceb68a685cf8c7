"""The peers of `jaxlstm bench`: that each computes, with the weights it is given, what PyTorch computes."""

import numpy as np
import pytest

from jaxlstm.cli.bench import _rounds, _workers
from jaxlstm.cli.bench._agree import difference
from jaxlstm.cli.bench._work import MODES, Shape
from jaxlstm.cli.bench.peers import PEERS

SHAPES = [Shape(2, 5, 3, 4, 2), Shape(3, 4, 3, 5, 2, 2)]

# Keras takes tanh in float32, whatever the dtype.
TOLERANCES = {peer: 1e-6 if peer == "keras" else 1e-13 for peer in PEERS if peer not in ("torch", "onnxruntime")}


@pytest.fixture(scope="module")
def by_dtype(tmp_path_factory):
    """Processes for each dtype: what they import takes longer than what they do."""
    wide, narrow = (_workers.Workers(tmp_path_factory.mktemp("bench"), None, dtype) for dtype in ("float64", "float32"))
    with wide, narrow:
        yield {"float64": wide, "float32": narrow}


def numbers(workers: _workers.Workers, peer: str, shape: Shape, cell: str) -> dict[str, np.ndarray]:
    workers.ask(peer, "build", shape=shape, cell=cell, dtype="float64", platform="cpu")
    found = {}
    for mode in PEERS[peer].modes:
        workers.ask(peer, "compile", mode=mode)
        found |= workers.numbers(peer, mode)
    return found


@pytest.mark.parametrize(("shape", "cell"), [(SHAPES[0], "lstm"), (SHAPES[1], "lstm"), (SHAPES[1], "gru")])
def test_computes_what_pytorch_computes(by_dtype, shape, cell):
    workers = by_dtype["float64"]
    expected = numbers(workers, "torch", shape, cell)
    states = 2 if cell == "lstm" else 1
    assert len(expected) == 2 + states + 4 * shape.layers * shape.directions
    for peer in TOLERANCES:
        if cell in PEERS[peer].cells:
            _check(numbers(workers, peer, shape, cell), expected, peer)


def _check(found, expected, peer):
    assert found.keys() == expected.keys()
    most, where = difference(found, expected)
    assert most <= TOLERANCES[peer], (peer, where)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_onnx_runtime_computes_what_pytorch_computes(by_dtype, cell):
    work, workers = {"shape": SHAPES[1], "cell": cell, "platform": "cpu"}, by_dtype["float32"]
    found, expected = {}, {}
    for peer, numbers in (("onnxruntime", found), ("torch", expected)):
        workers.ask(peer, "build", **work, dtype="float32", modes=["fwd"])
        workers.ask(peer, "compile", mode="fwd")
        numbers |= workers.numbers(peer, "fwd")
    assert found.keys() == expected.keys()
    assert difference(found, expected)[0] <= 1e-6
    with pytest.raises(_workers.PeerError, match="float32 only, not float64"):
        workers.ask("onnxruntime", "build", **work, dtype="float64")


def test_times_pytorch_and_keras_in_bfloat16(monkeypatch):
    monkeypatch.setattr(_rounds, "ROUND_S", 0.01)
    settings = _rounds.Settings(
        [Shape(2, 30, 8, 16, 2)], "lstm", MODES, "bfloat16", 1, None, ["jaxlstm", "torch", "keras"]
    )
    told = []
    results = _rounds.run(settings, told.append)
    assert len(told) == settings.num_steps() == 6
    assert results.versions["torch"].startswith("2.13.0")
    assert [m.failure for m in results.measurements] == [None] * 7
    assert all(m.median_s for m in results.measurements)
    assert {m.compile_s is None for m in results.measurements if m.peer == "torch"} == {True}
