"""Files that appear whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME, _RANDOM_BYTES = 255, 8
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def unfinished(folder: str | os.PathLike) -> list[Path]:
    """What is being written in a folder, or was when its writer was killed: nothing tells which."""
    return list(Path(folder).glob(f".part.{'[0-9a-f]' * 2 * _RANDOM_BYTES}*"))


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A new, empty file beside `path`, which takes its place, on disk, once it is written.

    It keeps the permissions of a file that was there; a link stays one, and what it leads to is replaced. What a killed
    process leaves behind no later one deletes, as another may be writing it at that moment.

    Raises:
        OSError: a place that can't be written; it is named, and not the file beside it.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target, path)
    temporary = target
    try:
        temporary = _create(target)
        if mode is not None:
            temporary.chmod(mode)
        yield temporary
        if mode is not None:  # Who wrote it may have made it anew.
            temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)).parent != target.parent:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        if temporary != target:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """An OSError that names no file, as that of a full disk, names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _mode(target: Path, path: str | os.PathLike) -> int | None:
    """The permissions of the file that is there; None if there is none."""
    try:
        about = target.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return stat.S_IMODE(about.st_mode)


def _create(target: Path) -> Path:
    """A file that was not there before, whatever another process does at this moment, of a name nobody can foresee."""
    while True:
        random = f".part.{secrets.token_hex(_RANDOM_BYTES)}"
        temporary = target.with_name(f"{random}.{target.name}")
        if len(os.fsencode(temporary.name)) > _LONGEST_NAME:
            temporary = target.with_name(random + "".join(target.suffixes)[-32:])
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINK, 0o666))
        except FileExistsError:
            continue
        return temporary


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
