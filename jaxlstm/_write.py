"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def unfinished(path: str | os.PathLike) -> Path:
    """Where `path` is while it is being written: beside it, with the same ending."""
    path = Path(path)
    return path.with_name(f".part.{path.name}")


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file, `unfinished(path)`, which takes the place of `path` once it is written."""
    temporary = unfinished(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
