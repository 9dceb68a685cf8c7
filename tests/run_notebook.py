"""Execute a notebook of `notebooks/` from top to bottom, and compare what is saved of it with its text.

Each `.ipynb`, whose outputs a visitor sees, is paired with a `.py` of jupytext's percent format, which diffs well.

Run: python tests/run_notebook.py STEM... to execute the `.py` in full and save the `.ipynb`.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parents[1] / "notebooks"
# Runs before the first cell: a warning is an error, in the notebook's own code and in every library's but the kernel's.
STRICT = "import warnings; warnings.simplefilter('error'); warnings.filterwarnings('ignore', module='ipykernel')"

# Where a cell has one of these outside any function, it has something to show.
SHOWS = re.compile(r"^(print|plt\.show)\(", re.MULTILINE)

# (what stands in the code, what to run in its place), in order.
Replacements = list[tuple[str, str]]


def stems() -> set[str]:
    """The names of all notebooks that there are, as either half of the pair."""
    return {path.stem for path in FOLDER.iterdir() if path.name[0].isdigit()}


def load(stem: str) -> NotebookNode:
    """The notebook as it is saved, with its outputs."""
    return nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    """Its cells of code that hold anything."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def shorten(notebook: NotebookNode, replacements: Replacements) -> None:
    """Put each replacement in the place of the one spot that it names."""
    for old, new in replacements:
        places = [cell for cell in code(notebook) if old in cell.source]
        count = sum(cell.source.count(old) for cell in places)
        assert count == 1, f"{old!r} stands {count} times in the notebook's code, not once"
        places[0].source = places[0].source.replace(old, new)


def messages(notebook: NotebookNode) -> list[str]:
    """Every error that a cell ended with, and everything that a cell wrote to stderr."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    errors = ["\n".join(output.traceback) for output in outputs if output.output_type == "error"]
    return errors + [output.text for output in outputs if output.get("name") == "stderr"]


def execute(stem: str, replacements: Replacements) -> None:
    """Run it in a fresh kernel of this interpreter: no error, no warning, nothing on stderr."""
    notebook = load(stem)
    shorten(notebook, replacements)
    run(notebook)


def run(notebook: NotebookNode) -> None:
    """Fill in its outputs."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
    # With no kernels on record, which may be another environment's, Jupyter takes the interpreter that runs.
    kernel = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=600,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute(cleanup_kc=True)
    assert not messages(notebook)
    del notebook.cells[0]


def save(stem: str) -> None:
    """Execute the `.py` as it stands, and save the `.ipynb` as after one run from top to bottom."""
    notebook = jupytext.read(FOLDER / f"{stem}.py")
    run(notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    for count, cell in enumerate(code(notebook), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    notebook.metadata.pop("language_info", None)
    jupytext.write(notebook, FOLDER / f"{stem}.ipynb")


def check_saved(stem: str) -> None:
    """The pair says the same, and the `.ipynb` was saved after one run from top to bottom in which nothing failed."""
    saved = load(stem)
    text = jupytext.read(FOLDER / f"{stem}.py")
    cells = [[(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (saved, text)]
    assert cells[0] == cells[1], f"run: jupytext --sync notebooks/{stem}.py"
    assert [cell.execution_count for cell in code(saved)] == list(range(1, len(code(saved)) + 1))
    assert not messages(saved)
    silent = [cell.source for cell in code(saved) if SHOWS.search(cell.source) and not cell.outputs]
    assert not silent


def printed(stem: str) -> str:
    """All that its cells printed when it was saved."""
    return "".join(
        output.text for cell in code(load(stem)) for output in cell.outputs if output.get("name") == "stdout"
    )


if __name__ == "__main__":
    for each in sys.argv[1:]:
        save(each)
