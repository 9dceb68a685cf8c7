"""The site builds without a warning, its API pages leave no public name out, and its texts can be read as files."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from sphinx.util.inventory import InventoryFile

FOLDER = Path(__file__).parents[1] / "notebooks"
MODULES = ["jaxlstm", "jaxlstm.cells", "jaxlstm.initializers", "jaxlstm.interop"]
MODULES += ["jaxlstm.linen", "jaxlstm.nnx", "jaxlstm.sharding"]


def built(out: Path) -> set[str]:
    """Every Python name that the pages, built into the folder, have an entry for."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "--fresh-env",
        str(FOLDER),
        str(out),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    inventory = InventoryFile.loads((out / "objects.inv").read_bytes(), uri="").data
    return {name for kind, entries in inventory.items() if kind.startswith("py:") for name in entries}


def public(module: ModuleType) -> set[str]:
    """What a module hands out: what it says so of, or its own functions and classes."""
    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text())
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name for name in getattr(module, "__all__", own) if name[0] != "_"}


def test_every_public_name_has_an_entry(tmp_path):
    documented = built(tmp_path)
    for module in map(importlib.import_module, MODULES):
        names = public(module)
        assert names
        # A class that is handed out in two places is described where it stands.
        homes = {name: getattr(getattr(module, name), "__module__", None) for name in names}
        missing = [name for name in names if not {f"{module.__name__}.{name}", f"{homes[name]}.{name}"} & documented]
        assert not missing, module
    # What the converter of formulas does not know it copies, with TeX's separators.
    assert not [page.name for page in tmp_path.glob("*.html") if "<mi>&</mi>" in page.read_text()]


def test_pages_read_well_as_files():
    """A forge shows a role of MyST's as it is written; `conf.py` makes links of names in plain code."""
    pages = [FOLDER.parent / "README.md", *FOLDER.rglob("*.md"), *FOLDER.glob("*.py")]
    assert len(pages) > 20
    assert not [page.name for page in pages if "{py:" in page.read_text()]
