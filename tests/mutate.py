"""Broken copies of a file, the same ones every time."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxlstm import LSTMCellParams
from jaxlstm._check import check_cell_params, check_params
from jaxlstm.cli._isolated import isolated
from jaxlstm.interop import _files

COUNT = int(os.environ.get("MUTATIONS", "40"))
"""Broken copies of each file; 3,000 of each have been tried."""
MAY_CRASH = {".h5", ".keras", ".pt"}
"""Formats whose parsers, libhdf5 and PyTorch, are not ours to mend."""


def _flip_bits(data: bytearray, random: np.random.Generator) -> bytearray:
    for _ in range(random.integers(1, 9)):
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    return data


def _truncate(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[: random.integers(len(data))]


def _lie(data: bytearray, random: np.random.Generator) -> bytearray:
    """An extreme number over some bytes, more often near the start, where headers are."""
    width = 2 ** int(random.integers(4))
    start = int(len(data) * random.random() ** 3)
    data[start : start + width] = (b"\x00", b"\xff", b"\x7f", b"\x80")[random.integers(4)] * width
    return data


def _splice(data: bytearray, random: np.random.Generator) -> bytearray:
    """A stretch of the file over another place of it, or cut out, or doubled."""
    start, end, place = (int(k) for k in random.integers(len(data), size=3))
    start, end = sorted((start, end))
    stretch = data[start:end]
    ways = (data[:place] + stretch + data[place:], data[:start] + data[end:], data[:place] + stretch)
    return ways[random.integers(3)]


_WAYS: list[Callable[[bytearray, np.random.Generator], bytearray]] = [_flip_bits, _truncate, _lie, _splice]


def mutations(data: bytes, count: int) -> Iterator[bytes]:
    """`count` mutations, each broken in one to three ways."""
    for seed in range(count):
        random = np.random.default_rng(seed)
        mutated = bytearray(data)
        for _ in range(random.integers(1, 4)):
            if mutated:
                mutated = _WAYS[random.integers(len(_WAYS))](mutated, random)
        yield bytes(mutated)


def read_all(path: Path) -> int:
    """Every LSTM of a file, as `jaxlstm inspect` reads them."""
    found = _files.find(path)
    for each in found.values():
        params = each.params()
        check_cell_params(params) if isinstance(params, LSTMCellParams) else check_params(params)
    return len(found)


def survives(path: Path, data: bytes) -> bool:
    """Whether a file of these bytes is read; if not, that the one error there may be names it.

    It is read where `jaxlstm inspect` reads it, in a process that may take some seconds and 256 MB.
    """
    path.write_bytes(data)
    try:
        isolated(read_all, path)
    except (ValueError, OSError) as error:
        words = str(error)
    else:
        return True
    assert words.startswith(f"{path}: ") or words.endswith(f"'{path}'"), words
    assert path.suffix in MAY_CRASH or "its parser crashed" not in words, words
    return False


def count_survivors(path: Path) -> int:
    """How many of a file's mutations are read."""
    return sum([survives(path, data) for data in mutations(path.read_bytes(), COUNT)])
