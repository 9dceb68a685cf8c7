"""What general compressors need for a text: the yardstick of a character model."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}

_FARTHEST = 8 << 20  # Bytes: none of them looks back farther (xz's dictionary; bzip2 900 kB, gzip 32 kB).


class Yardstick(NamedTuple):
    """Bits per character of a text compressed alone, and behind another text that the compressor has read."""

    alone: float
    after: float


def yardsticks(before: str, text: str) -> dict[str, Yardstick]:
    """Each compressor's bits per character of `text`, in UTF-8, alone and behind `before`."""
    read, data = before.encode()[-_FARTHEST:], text.encode()

    parts = data, read + data, read
    with ThreadPoolExecutor() as pool:  # They let go of Python's lock.
        works = [[pool.submit(compress, part) for part in parts] for compress in COMPRESSORS.values()]
        sizes = [[8 * len(work.result()) / len(text) for work in row] for row in works]
    return {name: Yardstick(alone, both - first) for name, (alone, both, first) in zip(COMPRESSORS, sizes, strict=True)}
