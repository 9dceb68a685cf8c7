"""Zip files (`.keras`, `.npz`, `.pt`), opened without trust in what their headers say."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

SLACK = 2**24
_MOST_EXPANSION = 8
_CHUNK = 2**20


@contextmanager
def open_zip(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    """A zip whose members are together not much larger than itself, as weights hardly compress."""
    with zipfile.ZipFile(path) as archive:
        claimed, stored = sum(member.file_size for member in archive.infolist()), os.path.getsize(path)
        if claimed > _MOST_EXPANSION * stored + SLACK:
            raise ValueError(f"a zip of {stored} bytes that claims to hold {claimed}.")
        yield archive


def check_sums(archive: zipfile.ZipFile) -> None:
    """Refuse a zip whose members are not what was written, where it has a sum of them; PyTorch may leave it 0."""
    for member in archive.infolist():
        if member.CRC:
            with archive.open(member) as file:
                try:
                    while file.read(_CHUNK):
                        pass
                except zipfile.BadZipFile as error:
                    raise ValueError(f"{member.filename}: damaged since it was written: {error}.") from error
