"""The notebook that shows PyTorch beside jaxlstm."""

import run_notebook

STEM = "02_coming_from_pytorch"
# What is shortened: (what stands in the notebook's code, what runs in its place).
REPLACEMENTS: run_notebook.Replacements = []


def test_runs_without_a_warning():
    run_notebook.execute(STEM, REPLACEMENTS)


def test_is_saved_with_its_outputs():
    run_notebook.check_saved(STEM)
