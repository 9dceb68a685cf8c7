"""The table of implementations with kernels in it that a CPU can run, so that tests go through its own dispatch."""

import contextlib
import functools
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

from jaxlstm import _fold
from jaxlstm.implementations import _choice, pallas
from jaxlstm.implementations._protocol import Entry

KERNEL: Any = types.SimpleNamespace(
    why_not=pallas.why_not,
    forward=functools.partial(pallas.forward, interpret=True),
    backward=functools.partial(pallas.backward, interpret=True),
)
"""`pallas` by Pallas's interpreter."""


def interpreted(platform: str, name: str = "pallas", *, proven: bool = True) -> Entry:
    """The TPU kernels as those of another platform."""
    (tpu,) = (entry for entry in _choice.KERNELS if entry.name == "pallas")
    return tpu._replace(name=name, kernel=KERNEL, platform=platform, proven=proven)


@contextlib.contextmanager
def table_of(*entries: Entry) -> Iterator[None]:
    """The table holds these kernels alone."""
    run: Any = _fold._run  # pyright does not know what a jitted function can do.
    with mock.patch.object(_choice, "KERNELS", list(entries)):
        run.clear_cache()  # What None meant before.
        try:
            yield
        finally:
            run.clear_cache()


def recording(entry: Entry, why_not: str | None = None) -> tuple[Entry, list[str]]:
    """The entry with a kernel that says that it can't serve, or takes down what is asked of it, in the list."""
    calls: list[str] = []

    def forward(*args, keep, **options):
        calls.append("forward, kept" if keep else "forward")
        return entry.kernel.forward(*args, keep=keep, **options)

    def backward(*args, **options):
        calls.append("backward")
        return entry.kernel.backward(*args, **options)

    kernel: Any = types.SimpleNamespace(
        why_not=entry.kernel.why_not if why_not is None else lambda *_, **__: why_not,
        forward=forward,
        backward=backward,
    )
    return entry._replace(kernel=kernel), calls
