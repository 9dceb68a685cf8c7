"""The processes that a run is spread over, on one host or many, by `jax.distributed`."""

import contextlib
import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxlstm.cli import _stderr

PATIENCE = 30
"""Seconds without a sign of life after which a process counts as lost. A broken connection is noticed at once."""


class Processes(NamedTuple):
    """Where the processes meet, how many they are, and which one this is; the first leads."""

    coordinator: str
    number: int
    id: int


def processes(coordinator: str | None, number: int | None, process_id: int | None) -> Processes | None:
    """The three options together; None where none is given.

    Raises:
        click.UsageError: one is missing, or makes no sense.
    """
    options = {"--coordinator": coordinator, "--num-processes": number, "--process-id": process_id}
    missing = [name for name, value in options.items() if value is None]
    if coordinator is None or number is None or process_id is None:
        if len(missing) == len(options):
            return None
        raise click.UsageError(f"{' and '.join(missing)}: missing. A run of many processes needs {', '.join(options)}.")
    port = re.fullmatch(r".+:(\d{1,5})", coordinator)
    if port is None or not 0 < int(port[1]) < 2**16:
        raise click.UsageError(f"--coordinator {coordinator}: expected HOST:PORT, as in 10.0.0.1:8476.")
    if process_id >= number:
        raise click.UsageError(
            f"--process-id {process_id}: expected 0 to {number - 1}, below --num-processes {number}."
        )
    if process_id == 0:
        _check_port(int(port[1]))
    return Processes(coordinator, number, process_id)


def _check_port(port: int) -> None:
    """Refuse a port that the first process can't listen at; jaxlib would crash."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise click.UsageError(f"--coordinator: can't listen at port {port} ({error.strerror}).") from error


@contextlib.contextmanager
def joined(members: Processes | None, settings: Any) -> Iterator[None]:
    """Within it all processes are there; without any it does nothing.

    Should one be lost, this one ends at once with exit status 1 or by SIGABRT, and one line of error.

    Args:
        members: the processes.
        settings: what must be the same in every process; compared as it prints.

    Raises:
        click.UsageError: they were not.
    """
    if members is None:
        yield
        return
    _filter_stderr(members.coordinator)
    # It takes SIGTERM for itself; what a signal does is agreed on by the training steps.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        members.coordinator,
        members.number,
        members.id,
        heartbeat_timeout_seconds=PATIENCE,
        shutdown_timeout_seconds=PATIENCE,
    )
    try:
        _check_alike(settings)
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and "Gloo" not in str(error):  # Which is what its errors are.
            raise
        # Not in order, for that waits for the process that is lost.
        os.write(2, f"{_stderr.LOST} {str(error).splitlines()[0]}\n".encode())
        os._exit(1)
    # In order, which takes all of them. After an exception JAX does so itself at the end.
    jax.distributed.shutdown()


def meet() -> None:
    """Wait for all processes, however long one of them works alone."""
    multihost_utils.sync_global_devices("jaxlstm train")


def _check_alike(settings: Any) -> None:
    digest = np.frombuffer(hashlib.sha256(repr(settings).encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest, tiled=True).reshape(-1, len(digest))
    if (digests != digests[0]).any():
        raise click.UsageError("The processes were given different texts or options. Give all of them the same.")


def _filter_stderr(coordinator: str) -> None:
    """Send native code's stderr through `_stderr`, which outlives this process; Python's goes as before."""
    command = [sys.executable, "-I", _stderr.__file__, coordinator]
    read, write = os.pipe()
    # In a group of its own, so that Ctrl-C doesn't reach it.
    os.posix_spawn(sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)], setpgroup=0)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace", closefd=False)
    os.dup2(write, 2)
    os.close(read)
    os.close(write)
