"""Sphinx: the API reference, built from the docstrings by `sphinx-build notebooks/api build/api`."""

import importlib.metadata
import re

project = "jaxlstm"
release = importlib.metadata.version(project)
copyright = "the jaxlstm authors, Apache-2.0"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The docstrings' single backticks are code, as where they are read in a terminal.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Shapes and dtypes stand in the text; the types would make most signatures unreadable.
autodoc_typehints = "none"
napoleon_use_ivar = True
napoleon_use_rtype = False
# Every name of ours that is referred to must be there; other libraries' pages are not at hand.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!jaxlstm).*")]

html_theme = "furo"
html_title = f"jaxlstm {release}"
html_show_sphinx = False


def setup(app):
    """Let code be followed by letters, as in "two `RNN`s", where reStructuredText wants a space."""

    def part(_app, _what, _name, _obj, _options, lines):
        text = "\n".join(lines)
        lines[:] = re.sub(r"`[^`]+`(?=(\w?))", lambda code: code[0] + "\\ " * bool(code[1]), text).split("\n")

    app.connect("autodoc-process-docstring", part)
