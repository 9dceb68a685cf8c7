"""Sphinx: the site, built by `sphinx-build notebooks build/site` without network."""

import importlib.metadata
import inspect
import re
from typing import Any

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer

from jaxlstm import linen
from jaxlstm.cli._door import COMMANDS, command_of

project = "jaxlstm"
release = importlib.metadata.version(project)
copyright = "the jaxlstm authors, Apache-2.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# tests/test_notebooks.py runs them.
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "text/markdown", 0)]
nb_render_markdown_format = "myst"  # CommonMark has no tables.
# What is copied is what can be pasted.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

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
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sphinx = False
html_math_renderer = "mathml"


def equations_are_literal(_app, _what, _name, _obj, _options, lines: list[str]) -> None:
    """Keep an indented paragraph, which in our docstrings is an equation, as it stands in a terminal."""
    for k in range(len(lines) - 1, 1, -1):
        before = lines[k - 2].rstrip()
        indented = len(lines[k]) - len(lines[k].lstrip()) > len(before) - len(before.lstrip())
        if before and lines[k].strip() and not lines[k - 1].strip() and indented and not before.endswith("::"):
            lines[k:k] = ["::", ""] if not before.startswith(" ") else []


def plain_text(_app, _what, _name, _obj, _options, lines: list[str]) -> None:
    """Read as reStructuredText what reads well in a terminal."""
    text = "\n".join(lines)
    # Letters after code, as in "two `RNN`s", where reStructuredText wants a space.
    text = re.sub(r"`[^`]+`(?=(\w?))", lambda code: code[0] + "\\ " * bool(code[1]), text)
    # The legend's letters at a line's start, which are no items of a list: "I.", "H."
    lines[:] = re.sub(r"(?m)(^ *|: )(?=[A-Z]\.(?:$| ))", r"\1\\", text).split("\n")


def described_where_it_stands(_app, what, name, _obj, _options, lines: list[str]) -> None:
    """A type alias has no docstring of its own: take the one below it, not that of `tuple`."""
    if what in ("data", "type"):
        documented = ModuleAnalyzer.for_module("jaxlstm._types").attr_docs
        lines[:] = documented.get(("", name.rpartition(".")[2]), lines)


def constructor(_app, what, name, obj, _options, signature, returned):
    """The arguments and defaults of a class, also where Flax's metaclasses hide them, and defaults by their names."""
    module = what == "class" and obj.__module__.startswith(("jaxlstm.linen", "jaxlstm.nnx"))
    described = what == "class" and name.endswith("." + obj.__name__)  # And no alias.
    if not module and not (described and hasattr(obj, "_fields")):
        return signature, returned
    arguments = list(inspect.signature(obj.__init__ if module else obj).parameters.values())
    shown, star = [], False
    for argument in arguments[1:] if module else arguments:
        if argument.name in ("parent", "name"):  # Every Linen module's, filled in by Linen.
            continue
        if argument.kind is argument.KEYWORD_ONLY and not star:
            star = True
            shown.append("*")
        default: Any = argument.default
        if default is argument.empty:
            shown.append(argument.name)
        else:
            shown.append(f"{argument.name}={getattr(default, '__name__', repr(default))}")
    return f"({', '.join(shown)})", returned


def names_of_ours_are_links(_app, doctree) -> None:
    """`jaxlstm.lstm` in a text is a link here, and plain code where the page is read as a file."""
    for code in list(doctree.findall(nodes.literal)):
        if re.fullmatch(r"jaxlstm(\.\w+)+", target := code.astext()):
            if target.partition(".")[2] in linen.__all__:  # At hand in jaxlstm too, and described where they stand.
                target = target.replace("jaxlstm", "jaxlstm.linen")
            link = addnodes.pending_xref("", refdomain="py", reftype="obj", reftarget=target, refwarn=True)
            code.replace_self(link)
            link += code


class CommandLineHelp(Directive):
    """What `jaxlstm COMMAND --help` prints, for every command."""

    def run(self) -> list[nodes.Node]:
        """A section for each."""
        sections = []
        for name in COMMANDS:
            command = command_of(name)
            context = click.Context(command, info_name=f"jaxlstm {name}", terminal_width=88, max_content_width=88)
            text = command.get_help(context)
            section = nodes.section(ids=[f"jaxlstm-{name}"], names=[f"jaxlstm {name}"])
            section += [nodes.title(text=f"jaxlstm {name}"), nodes.literal_block(text, text, language="text")]
            self.state.document.note_explicit_target(section)
            sections.append(section)
        return sections


def math_ml(latex: str, display: str = "inline") -> str:
    """MathML, which browsers read by themselves; a prime is as large as it is, instead of a small one raised again."""
    prime = r"<msup>(<mi>\w</mi>)<mi>(&#x02032;)</mi></msup>"
    return re.sub(prime, r"<mrow>\1<mo>\2</mo></mrow>", convert(latex, display=display))


def inline_math(translator, node) -> None:
    """Within a line."""
    translator.body.append(math_ml(node.astext()))
    raise nodes.SkipNode


def display_math(translator, node) -> None:
    """The same in a line of its own."""
    latex = node.astext().replace("{aligned}", "{align*}")  # The name that the converter knows.
    translator.body.append(f'<div class="math">{math_ml(latex, "block")}</div>')
    raise nodes.SkipNode


def setup(app) -> None:
    """Connect what stands above."""
    app.connect("autodoc-process-docstring", equations_are_literal, priority=400)  # Before napoleon.
    app.connect("autodoc-process-docstring", described_where_it_stands, priority=400)
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("autodoc-process-signature", constructor)
    app.connect("doctree-read", names_of_ours_are_links)
    app.add_directive("command-line-help", CommandLineHelp)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
