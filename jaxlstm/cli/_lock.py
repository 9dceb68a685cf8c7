"""Who trains in a run's folder: one process at a time, by a lock that the operating system takes back at its death."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

LOCK = ".lock"
"""The file in the folder. It stays, since one who deletes it might delete another's."""


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Have the folder, which is made if need be, to oneself.

    Raises:
        click.UsageError: another process has it.
        OSError: a place that can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Open for writing, as NFS wants for a lock that excludes others.
    with (out / LOCK).open("a") as file:
        _lock(file.fileno(), out)
        yield


def _lock(descriptor: int, out: Path) -> None:
    if sys.platform == "win32":
        import msvcrt

        def lock() -> None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        def lock() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    try:
        lock()
    except (BlockingIOError, PermissionError) as error:
        raise click.UsageError(
            f"--out {out}: another process trains in {out}. Wait for it, or give another."
        ) from error
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, asking for a lock", os.fspath(out / LOCK)) from error
