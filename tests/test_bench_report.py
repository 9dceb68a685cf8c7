"""What `jaxlstm bench` prints of given figures."""

import io

import pytest
from rich.console import Console

from jaxlstm.cli.bench._machine import split_by_presence
from jaxlstm.cli.bench._report import LEGEND, show
from jaxlstm.cli.bench._results import Measurement, Results
from jaxlstm.cli.bench._work import MODES, PRODUCT, SHAPES
from jaxlstm.cli.bench.peers import PEERS, Peer


def _unwrapped(text: str) -> str:
    return " ".join(text.split())


def _shown(width: int, rounds_s: list[float], product_flops: float = 1e15, **more) -> tuple[list[str], list[str]]:
    """What is printed of equal rounds of all peers: the lines of prose, and the rows of tables."""
    shape = SHAPES[-1]
    measured = [Measurement("jaxlstm", shape, PRODUCT, product_flops, rounds_s=rounds_s)] + [
        Measurement(peer, shape, mode, shape.flops("lstm", mode), 1.234, 123_400_000, 0.0, rounds_s, [3, 3])
        for mode in MODES
        for peer in PEERS
    ]
    machine = {"cpu": "a processor", "cores": [0], "pinned": True, "platform": "cpu", "system": "", "python": ""}
    machine |= {"allocator": "the system's default"}
    results = Results(machine, {"dtype": "float32", "rounds": 2}, {}, measurements=measured, **{"missing": {}} | more)
    console = Console(width=width, record=True, file=io.StringIO())
    show(results, console)
    lines = console.export_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return [line for line in lines if line not in rows], rows


@pytest.mark.parametrize("rounds_s", [[0.1234, 0.1534], [0.1, 0.3]])
@pytest.mark.parametrize("width", [60, 80])
def test_tables_stay_whole_and_prose_wraps_at_words(width, rounds_s):
    prose, rows = _shown(width, rounds_s)
    assert sum(line.startswith(("|jaxlstm ", f"|{SHAPES[-1]}|", "|geometric mean")) for line in rows) == 6
    assert {line[-1] for line in rows} == {"|"}  # none is folded
    assert max(map(len, rows)) <= 80
    assert max(map(len, prose)) <= width
    assert _unwrapped(LEGEND) in _unwrapped("\n".join(prose))  # no word is broken


@pytest.mark.parametrize(
    ("rounds_s", "spread", "ratio"), [([0.1], "-", "1.00"), ([0.1, 0.11], "5%", "1.00"), ([0.1, 0.3], "50%", "~1.00")]
)
def test_marks_ratios_of_what_spreads(rounds_s, spread, ratio):
    _, rows = _shown(80, rounds_s)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [row[2:4] for row in cells if row[0] == "PyTorch"] == [[spread, ratio]] * 2
    ratios = [row[1:] for row in cells if row[0] == str(SHAPES[-1])]
    assert ratios == [[ratio] * 8] * 2


@pytest.mark.parametrize(("product_flops", "told"), [(1e15, False), (1e3, True)])
def test_explains_a_share_above_100_percent(product_flops, told):
    prose, _ = _shown(80, [0.1, 0.11], product_flops)
    assert ("is JAX's own, of two 1024 x 1024 matrices" in _unwrapped("\n".join(prose))) == told


def test_names_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(PEERS, "absent", Peer("Absent", "absent", "no_such_package", "no-such-distribution"))
    present, missing = split_by_presence(["jaxlstm", "absent"])
    assert present == ["jaxlstm"]
    prose, _ = _shown(80, [0.1], missing=missing)
    assert "Not installed: Absent. pip install no-such-distribution" in prose
