"""The processes that `jaxlstm bench` measures in: pinned, given up, or shared."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from jaxlstm.cli.bench import _workers
from jaxlstm.cli.bench._agree import difference
from jaxlstm.cli.bench._work import parse_shape
from jaxlstm.cli.bench.peers import PEERS, Peer


def _cores_of_threads(pid):
    cores = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # A thread may end while we look.
            cores |= os.sched_getaffinity(int(thread.name))
    return cores


def test_pins_every_thread(tmp_path):
    before = os.sched_getaffinity(0)
    core = max(before)
    with _workers.Workers(tmp_path, [core], "float32") as workers:
        assert workers.device()["platform"] == "cpu"
        allowed = _cores_of_threads(workers._workers["jaxlstm"]._process.pid)
    assert allowed == {core}
    assert os.sched_getaffinity(0) == before


def test_gives_up_a_worker_that_does_not_answer(tmp_path, monkeypatch):
    (tmp_path / "sleepy.py").write_text("import time\ndef runner(work):\n    time.sleep(1000)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setitem(PEERS, "sleepy", Peer("Sleepy", "sleepy", "jaxlstm", "jaxlstm"))
    monkeypatch.setattr(_workers, "TIMEOUT_S", 0.5)
    with (
        _workers.Workers(tmp_path, None, "float32") as workers,
        pytest.raises(_workers.PeerError, match=r"^no answer within 0\.5 s$"),
    ):
        workers.ask("sleepy", "build", shape=(1, 1, 1, 1), cell="lstm", dtype="float32", platform="cpu")


def test_shares_the_process_of_a_device_that_only_one_can_have(tmp_path, monkeypatch):
    monkeypatch.setattr(_workers, "ONE_PROCESS", ("cpu",))
    shape = parse_shape("2x3x4x5")
    with _workers.Workers(tmp_path, None, "float64") as workers:
        workers.device()
        found = {}
        for peer in ("jaxlstm", "linen"):
            workers.ask(peer, "build", shape=shape, cell="lstm", dtype="float64", platform="cpu")
            workers.ask(peer, "compile", mode="fwd")
            found[peer] = workers.numbers(peer, "fwd")
        assert list(workers._workers) == ["jaxlstm"]
    assert found["jaxlstm"]["output"].dtype == np.float64
    assert difference(found["linen"], found["jaxlstm"])[0] < 1e-14
