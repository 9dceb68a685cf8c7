"""Passes stdin on to stderr, but turns jaxlib's report of a lost process, 20 lines and a stack trace, into one line.

jaxlib aborts a process that loses its coordinator, from a thread of its own, before Python can hear of it. So what it
writes goes through this program, which runs in a process of its own and outlives the other. It imports nothing heavy.
"""

import re
import sys
from collections.abc import Iterable

LOST = "jaxlstm: lost a process:"
"""Before the reason, where Python was the first to notice."""

_ABORT = "Terminating process because the JAX distributed service detected fatal errors"
_PRELUDE = re.compile(r"[WE]\d{4} .*coordination_service")


def main(lines: Iterable[str], coordinator: str) -> None:
    """Pass lines on, but hold them back from where a process may have been lost, and see at the end whether it was."""
    held = []
    for line in lines:
        if held or line.startswith(LOST) or _ABORT in line or _PRELUDE.match(line):
            held.append(line)
        else:
            sys.stderr.write(line)
    lost = any(line.startswith(LOST) or _ABORT in line for line in held)
    sys.stderr.write(f"Error: {_reason(held, coordinator)}\n" if lost else "".join(held))


def _reason(held: list[str], coordinator: str) -> str:
    if any("RegisterTask" in line for line in held):
        return f"not all processes came together at {coordinator}. Start all of them, with the same --coordinator."
    noticed = [line.removeprefix(LOST).strip() for line in held if line.startswith(LOST)]
    said = noticed[0] if noticed else "its connection broke or fell silent"
    return f"another process of the run is lost ({said}). Start all of them again with --resume."


if __name__ == "__main__":
    main(sys.stdin, sys.argv[1])
