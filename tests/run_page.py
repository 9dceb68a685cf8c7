"""Run the code of one page of the site from top to bottom: `python -W error run_page.py PAGE`.

A block of `python` is code; a block of `text` right after it is what it prints, where `...` stands for anything.
"""

import contextlib
import doctest
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SITE = Path(__file__).parents[1] / "notebooks"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
# Of Keras's own `get_weights`.
KERAS = "__array__ implementation doesn't accept a copy"
AS_SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """Code, the line of the page that it begins in, and what it prints, if the page shows it."""

    line: int
    code: str
    printed: str | None


def pages() -> list[str]:
    """Every page that shows code, as a path within the site."""
    return sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.md") if BLOCK.search(path.read_text()))


def blocks(page: str) -> list[Block]:
    """A page's blocks, in order."""
    text = (SITE / page).read_text()
    return [Block(text.count("\n", 0, match.start(1)), match[1], match[2]) for match in BLOCK.finditer(text)]


def needs_torch(page: str) -> bool:
    """Whether a page can only run where PyTorch is installed."""
    return any("import torch" in block.code for block in blocks(page))


def run(page: str) -> None:
    """Run a page's blocks in one namespace, as a reader does who copies all of them."""
    namespace = {"__name__": "__main__"}
    for line, code, printed in blocks(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            # Lines as the page counts them, so that a traceback leads there.
            exec(compile("\n" * line + code, str(SITE / page), "exec"), namespace)
        if printed is not None and not doctest.OutputChecker().check_output(printed, out.getvalue(), AS_SHOWN):
            raise AssertionError(f"{page}, line {line}: it says\n{printed}\nbut prints\n{out.getvalue()}")


def check(page: str, folder: Path) -> None:
    """Run it as a reader does, in a process and a folder of its own; a warning is an error."""
    command = [sys.executable, "-W", "error", "-W", f"ignore:{KERAS}:DeprecationWarning", __file__, page]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


if __name__ == "__main__":
    run(sys.argv[1])
