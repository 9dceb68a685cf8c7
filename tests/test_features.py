"""The site's table of features: what it says of us is proved by tests that exist."""

import ast
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "notebooks" / "features.md"
LINK = re.compile(r'\[[\w ]+\]\((\.\./tests/[\w/]+\.py) "(test_\w+)"\)')


def table() -> dict[str, list[str]]:
    """Every feature and what the libraries say to it, ours first."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["", "jaxlstm", "PyTorch", "Flax", "Haiku", "Equinox", "Keras", "JAX"]
    return {feature: answers for feature, *answers in rows[2:]}


@pytest.mark.parametrize("feature", table())
def test_ours_is_linked_to_tests_that_exist(feature):
    ours, *theirs = table()[feature]
    assert len(theirs) == 6
    assert all(theirs)
    links = ours.split(", ")
    for link in links:
        match = LINK.fullmatch(link)
        assert match, f"no test behind {link!r}"
        path, name = match.groups()
        functions = [
            node.name for node in ast.parse((PAGE.parent / path).read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        assert name in functions
