"""Zip files (`.keras`, `.npz`, `.pt`), opened without trust in what their headers say."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

SLACK = 2**26


@contextmanager
def open_zip(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    """A zip whose members are together not much larger than itself, as weights hardly compress."""
    with zipfile.ZipFile(path) as archive:
        claimed, stored = sum(member.file_size for member in archive.infolist()), os.path.getsize(path)
        if claimed > stored + SLACK:
            raise ValueError(f"a zip of {stored} bytes that claims to hold {claimed}.")
        yield archive
