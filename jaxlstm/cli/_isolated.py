"""A function of a file in a process of its own, under limits of memory and time.

Parsers of foreign formats may crash, hang or take all memory on a file made to do harm, libhdf5 and PyTorch's unpickler
among them. Whatever they do, what comes of it here is a result or one exception.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

if sys.platform != "win32":  # There only the wall clock limits it.
    import resource

_SECONDS, _BYTES_PER_SECOND = 8, 10**7
_PATIENCE = 10
"""Wall time to processor time, as the machine may be busy."""
_SLACK, _MOST_EXPANSION = 2**28, 64
_PARSERS = {
    "onnx": "onnx.reference",
    "h5": "h5py",
    "hdf5": "h5py",
    "keras": "h5py",
    "npz": "numpy",
    "safetensors": "numpy",
}
"""What is imported before the limits hold, by a file's ending; for a checkpoint, torch."""


def isolated(function: Callable[..., Any], path: Path, *args: Any) -> Any:
    """`function(path, *args)`, run elsewhere; function, arguments and result can be pickled.

    Raises:
        OSError, ValueError, TypeError, ImportError: what it raised; ValueError, too, if it took too long or too much
            memory, or crashed. The message names the file.
    """
    parser = _PARSERS.get(path.suffix.lower()[1:], "torch")
    context = _context(parser)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, parser, function, path, args), daemon=True)
    with _same_path():
        process.start()
    theirs.close()
    try:
        ours.recv()  # It has imported what it needs.
        seconds = _seconds(path)
        if not ours.poll(_PATIENCE * seconds):
            raise ValueError(f"{path}: not read: it takes more than {seconds:.0f} s.")
        result = ours.recv()
    except EOFError:
        process.join()
        raise ValueError(f"{path}: not read: {_end(process.exitcode, path)}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(result, Exception):
        raise result
    return result[0]


def _context(parser: str) -> Any:
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # What processes are forked from is started once: with what is needed now, and what may be needed later.
    others = [name for name in {*_PARSERS.values(), "torch"} if name in sys.modules]
    context.set_forkserver_preload(["jaxlstm.interop._files", parser, *others])
    return context


@contextlib.contextmanager
def _same_path() -> Iterator[None]:
    """Python, as started here, imports from where this one does, and not from the folder that it stands in."""
    theirs = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in theirs}
    os.environ.update(theirs)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, parser: str, function: Callable[..., Any], path: Path, args: tuple) -> None:
    """What the process does."""
    with open(os.devnull, "w") as nowhere:  # What a parser has to say of its own end is not for the user.
        os.dup2(nowhere.fileno(), 2)
    with contextlib.suppress(ImportError):  # Which the reader will say.
        import_module(parser)
    connection.send(None)
    _limit(path)
    try:
        connection.send((function(path, *args),))
    except (OSError, ValueError, TypeError, ImportError) as error:
        connection.send(error)
    except MemoryError:
        connection.send(ValueError(f"{path}: not read: it takes more memory than {_bytes(path) >> 20} MB."))


def _seconds(path: Path) -> float:
    return _SECONDS + _size(path) / _BYTES_PER_SECOND


def _bytes(path: Path) -> int:
    return _SLACK + _MOST_EXPANSION * _size(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _limit(path: Path) -> None:
    """From here on so much more memory and processor time."""
    if sys.platform == "win32":
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + _seconds(path)) + 1)
    statm = Path("/proc/self/statm")
    if statm.exists():  # Elsewhere address space is not limited, and not told either.
        _lower(resource.RLIMIT_AS, int(statm.read_text().split()[0]) * resource.getpagesize() + _bytes(path))


def _lower(kind: int, value: int) -> None:
    if sys.platform == "win32":
        return
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


def _end(exitcode: int | None, path: Path) -> str:
    if exitcode == -getattr(signal, "SIGXCPU", 0):
        return f"it takes more than {_seconds(path):.0f} s."
    return (
        f"its parser crashed ({exitcode}), as it may on a file that is broken, made to do harm, or takes more than "
        f"{_bytes(path) >> 20} MB."
    )
