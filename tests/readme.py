"""The README's code blocks, for the tests that run them."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    """Every fenced block of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def needs_torch(block: str) -> bool:
    """Whether a block can only run where PyTorch is installed."""
    return "import torch" in block


def title(block: str) -> str:
    """A block's first telling line, to name its test by."""
    return next(line for line in block.splitlines() if line and not line.startswith(("import", "from")))


def run(block: str) -> None:
    """Run a block as a script of its own."""
    exec(compile(block, str(README), "exec"), {"__name__": "__main__"})
