"""Broken copies of a file, the same ones every time."""

from collections.abc import Callable, Iterator

import numpy as np


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


def survives(path, data: bytes, reading: Callable[[], object]) -> bool:
    """Whether a file of these bytes is read; if not, that the one error there may be names it."""
    path.write_bytes(data)
    try:
        reading()
    except ValueError as error:
        words = str(error)
    else:
        return True
    assert words.startswith(f"{path}: "), words
    return False
