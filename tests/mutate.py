"""Broken copies of a file, the same ones every time."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxlstm.cli._isolated import isolated
from jaxlstm.interop import _files
from jaxlstm.interop._cells import check

COUNT = int(os.environ.get("MUTATIONS", "50"))
"""Broken copies of each file; 3,000 of each have been tried."""
_TOGETHER = 20
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
        check(each.params())
    return len(found)


def outcomes(path: Path, mutants: list[bytes]) -> list[str]:
    """What is said of each file; nothing where it is read."""
    said = []
    for mutant in mutants:
        path.write_bytes(mutant)
        try:
            read_all(path)
        except (ValueError, OSError) as error:
            said.append(str(error))
        else:
            said.append("")
    return said


def count_survivors(path: Path) -> int:
    """How many of a file's mutations are read; that the one error which others end in names them.

    They are read where `jaxlstm inspect` reads files, in a process that may take some seconds and 256 MB: some at a
    time for speed, and each by itself if that process ends.
    """
    mutants, said = list(mutations(path.read_bytes(), COUNT)), []
    for k in range(0, COUNT, _TOGETHER):
        batch = mutants[k : k + _TOGETHER]
        try:
            said += isolated(outcomes, path, batch)
        except ValueError:
            said += [_outcome(path, mutant) for mutant in batch]
    for words in filter(None, said):
        assert words.startswith(f"{path}: ") or words.endswith(f"'{path}'"), words
        assert path.suffix in MAY_CRASH or "not read: it" not in words, words
    return said.count("")


def _outcome(path: Path, mutant: bytes) -> str:
    path.write_bytes(mutant)
    try:
        isolated(read_all, path)
    except (ValueError, OSError) as error:
        return str(error)
    return ""
