"""`jaxlstm bench`: what it says is checked, pinned, alternated and computed, is. No test looks at how long it took."""

import json
import math
import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageColor

from jaxlstm import cli
from jaxlstm.cli.bench import _rounds, _workers, bench
from jaxlstm.cli.bench._agree import difference
from jaxlstm.cli.bench._plot import STYLES
from jaxlstm.cli.bench._results import Measurement, Results
from jaxlstm.cli.bench._work import SHAPES, Shape, draw, parse_shape
from jaxlstm.cli.bench.peers import PEERS, Peer

SHAPE = "2x3x4x5x2x2"
ROUNDS = 2

HEAD = """
import os, sys
import jax, jaxlstm
from jaxlstm.cli.bench.peers._jax import JaxRunner, reordered
"""
BROKEN = {
    "disorderly": (
        """
def cell(c):
    return c._replace(weight_ih=reordered(c.weight_ih, "igfo"))
def runner(work):
    load = lambda layers: tuple(tuple(cell(c) for c in cells) for cells in layers)
    return JaxRunner(work, load, jaxlstm.lstm)
""",
        dict.fromkeys(("fwd", "train"), "its h_n differs from that of jaxlstm by"),
    ),
    "numb": (
        """
def runner(work):
    return JaxRunner(work, lambda w: w, lambda w, x: jaxlstm.lstm(w, jax.lax.stop_gradient(x)))
""",
        {"fwd": None, "train": "its gradient of x differs from that of jaxlstm by 1.0e+00, more than 0.0001"},
    ),
    "careful": (
        """
def runner(work):
    raise MemoryError("no room\\nfor this")
""",
        {"fwd": "MemoryError: no room", "train": "MemoryError: no room"},
    ),
    "careless": (
        """
def runner(work):
    print("on standard output, which is not for this")
    print("out of registers", file=sys.stderr, flush=True)
    os._exit(7)
""",
        dict.fromkeys(("fwd", "train"), "its process ended with status 7: out of registers"),
    ),
}
"""Peers that must fail: their files, and the reason to be given in each mode."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One run in both modes of what every environment has and of what must fail."""
    folder = tmp_path_factory.mktemp("bench")
    asked = []
    ask = _workers.Workers.ask

    def listening(workers, name, do, **request):
        asked.append((name, do, request.get("mode")))
        return ask(workers, name, do, **request)

    with pytest.MonkeyPatch.context() as patch:
        for name, (source, _) in BROKEN.items():
            (folder / f"{name}.py").write_text(HEAD + source)
            patch.setitem(PEERS, name, Peer(name.title(), name, "jaxlstm", "jaxlstm"))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setattr(_workers.Workers, "ask", listening)
        patch.setattr(_rounds, "ROUND_S", 0.01)
        patch.setattr(_rounds, "PAUSE_S", 0.0)
        peers = ["numb", "careful", "linen", "careless", "disorderly", "nnx"]
        files = ["--json", str(folder / "bench.json"), "--plot", str(folder / "bench.png")]
        ran = CliRunner().invoke(bench, [SHAPE, "--rounds", str(ROUNDS), "--peers", ",".join(peers), *files])
    assert ran.exit_code == 0, ran.output
    return folder, ran.stdout, json.loads((folder / "bench.json").read_text()), asked


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def measured(results, peer, mode):
    (found,) = [m for m in results["measurements"] if (m["peer"], m["mode"]) == (peer, mode)]
    return found


@pytest.mark.parametrize("mode", ["fwd", "train"])
@pytest.mark.parametrize("peer", ["jaxlstm", "linen", "nnx"])
def test_measures_those_that_agree(report, peer, mode):
    _, _, results, _ = report
    found = measured(results, peer, mode)
    assert found["failure"] is None
    assert found["difference"] <= 1e-5
    assert found["compile_s"] > 0
    assert found["temp_bytes"] > 0
    assert len(found["rounds_s"]) == len(found["calls"]) == ROUNDS
    assert min(found["calls"]) >= _rounds.CALLS
    assert found["median_s"] == pytest.approx(np.median(found["rounds_s"]))
    assert found["flops"] == Shape(2, 3, 4, 5, 2, 2).flops("lstm", mode)
    assert found["flops_per_s"] == pytest.approx(found["flops"] / found["median_s"])
    assert found["steps_per_s"] == pytest.approx(3 / found["median_s"])
    product = measured(results, "jaxlstm", "product")
    assert found["share_of_product"] == pytest.approx(found["flops_per_s"] / product["flops_per_s"])
    ours = measured(results, "jaxlstm", mode)
    assert found["ours_over_theirs"] == pytest.approx(ours["median_s"] / found["median_s"])


@pytest.mark.parametrize("mode", ["fwd", "train"])
@pytest.mark.parametrize("peer", BROKEN)
def test_reports_a_peer_that_fails(report, peer, mode):
    _, printed, results, _ = report
    found, reason = measured(results, peer, mode), BROKEN[peer][1][mode]
    if reason is None:
        assert found["failure"] is None
        assert found["median_s"] > 0
    else:
        assert found["failure"].startswith(reason)
        assert found["median_s"] is None
        assert f"Failed: {peer.title()}, {mode} {SHAPE}: {reason}" in unwrapped(printed)


def test_alternates_rounds(report):
    _, _, _, asked = report
    rounds = [(name, mode) for name, do, mode in asked if do == "round"]
    one = [("jaxlstm", "fwd"), ("jaxlstm", "train"), ("jaxlstm", "product"), ("numb", "fwd")]
    one += [(name, mode) for name in ("linen", "nnx") for mode in ("fwd", "train")]
    assert rounds == one * ROUNDS
    # Nothing is timed before everything is checked.
    first = asked.index(("jaxlstm", "round", "fwd"))
    assert {do for _, do, _ in asked[first:]} == {"round"}


def test_prints_what_it_found(report):
    _, printed, results, _ = report
    assert results["machine"]["platform"] == "cpu"
    words = unwrapped(printed)
    assert unwrapped(results["machine"]["cpu"]) in words
    assert "cores: all" in words
    for library in ("jaxlstm", "jax", "jaxlib", "flax"):
        assert f"{library} {results['versions'][library]}" in words
    for mode in ("fwd", "train"):
        means = results["geometric_means_of_ratios"][mode]
        row = next(line for line in printed.splitlines() if line.startswith(f"|{SHAPE} "))
        assert means["best JAX peer"] == max(mean for mean in means.values() if mean is not None)
        assert row.count("|") == len(means) + 2
    lines = [line for line in printed.splitlines() if line.startswith("|Flax Linen")]
    assert [line.count("|") for line in lines] == [10, 10]


def test_draws_a_picture(report):
    folder, _, _, _ = report
    with Image.open(folder / "bench.png") as picture:
        pixels = {colour: count for count, colour in picture.convert("RGB").getcolors(maxcolors=2**20) or []}
    # A dot of each peer in two panels, for the shape and for the mean, and one in the legend.
    for peer in ("linen", "nnx"):
        _, colour = STYLES[list(PEERS).index(peer) - 1]
        assert pixels[ImageColor.getrgb(colour)[:3]] > 5 * 30
    assert {path.name for path in folder.iterdir() if "bench" in path.name} == {"bench.json", "bench.png"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["2x3x4"], "'2x3x4' is not BxTxIxH[xL[xD]]"),
        (["2x3x4x0"], "'2x3x4x0' is not BxTxIxH[xL[xD]]"),
        (["2x3x4x5x1x3"], "D = 3"),
        (["--peers", "linen,nobody"], "there is no peer 'nobody'"),
        (["--peers", "linen,absent"], "--peers: absent is not installed: pip install no-such-distribution"),
        (["--cell", "gru", "--peers", "haiku"], "haiku has no GRU that computes the same as PyTorch's"),
        (["--cores", "0,99999"], "there is no core 99999"),
        (["--cores", "one"], "expected core numbers"),
        (["--json", "no/such/folder.json"], "--json no/such/folder.json: no file can be written there"),
        (["--json", "."], "no file can be written there"),
        (["--plot", "no/such/picture.png"], "no file can be written there"),
        (["--plot", "picture.txt"], "its name must end in"),
        (["--rounds", "0"], "--rounds"),
        (["--mode", "backward"], "--mode"),
        (["--dtype", "int8"], "--dtype"),
    ],
)
def test_refuses_bad_input(arguments, complaint, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PEERS, "absent", Peer("Absent", "absent", "no_such_package", "no-such-distribution"))
    monkeypatch.setattr(_workers.subprocess, "Popen", None)  # Nothing may be started.
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", *arguments])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert not list(tmp_path.iterdir())


def test_counts_operations_and_draws_the_same_numbers_again():
    assert [parse_shape(str(shape)) for shape in SHAPES] == list(SHAPES)
    assert Shape(2, 3, 4, 5).flops("lstm", "fwd") == 8 * 2 * 3 * 5 * (4 + 5)
    assert Shape(2, 3, 4, 5, 2, 2).flops("lstm", "train") == 3 * 2 * 8 * 2 * 3 * 5 * ((4 + 5) + (10 + 5))
    first, second = (draw(Shape(2, 3, 4, 5, 2, 2), "lstm", "bfloat16", "cpu") for _ in range(2))
    assert list(first.weights)[-1] == "bias_hh_l1_reverse"
    assert first.weights["weight_ih_l1_reverse"].shape == (20, 10)
    for name, array in first.weights.items():
        np.testing.assert_array_equal(array, second.weights[name])
    np.testing.assert_array_equal(first.x, second.x)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({}, 0),
        ({"h_n": np.full(3, 2.1)}, 0.05),
        ({"output": np.zeros((2, 3))}, 1),
        ({"output": np.ones((3, 2))}, math.inf),
        ({"h_n": np.array([2, math.nan, 2])}, math.inf),
    ],
)
def test_finds_the_largest_difference(change, least):
    reference = {"output": np.ones((2, 3)), "h_n": np.full(3, 2.0)}
    most, where = difference(reference | change, reference)
    assert most == pytest.approx(least)
    assert not change or where in change


def test_computes_ratios():
    shapes = Shape(1, 2, 3, 4), Shape(5, 6, 7, 8)
    seconds = {"jaxlstm": (1, 8), "torch": (2, 2), "linen": (4, 10), "haiku": (2, None)}
    results = Results({}, {}, {}, {})
    for peer, times in seconds.items():
        for shape, time in zip(shapes, times, strict=True):
            rounds, failure = ([], "out of memory") if time is None else ([time, time, 9.0 * time], None)
            results.measurements.append(Measurement(peer, shape, "fwd", 1, rounds_s=rounds, failure=failure))
    assert [results.best_jax(shape, "fwd") for shape in shapes] == ["haiku", "linen"]
    assert results.ratio(shapes[1], "fwd", "torch") == 4
    assert results.ratio(shapes[1], "fwd", "haiku") is None
    assert results.mean_ratios("fwd") == pytest.approx(
        {
            "torch": math.sqrt(0.5 * 4),
            "linen": math.sqrt(0.25 * 0.8),
            "haiku": 0.5,
            "best JAX peer": math.sqrt(0.5 * 0.8),
        }
    )
