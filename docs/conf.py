"""The site: Sphinx reads README.md, docs/ and examples/README.md as they are, and the docstrings.

The source folder is the root of the repository, so that links between these files are right on a repository host too.
`scripts/docs.sh` builds it.
"""

from __future__ import annotations

import inspect

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

import openmm_duality as duality
from openmm_duality.cli import main

_ROOM = "room "  # prefix of keys in the metadata of a page
_HELP_WIDTH = 96  # characters, as wide as a block of code

project = "openmm_duality"
author = "the authors of openmm_duality"
version = release = duality.__version__
root_doc = "docs/index"
include_patterns = ["README.md", "docs/**.md", "examples/README.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

myst_heading_anchors = 3  # links to headings, as repository hosts make them
smartquotes = False  # dashes are typed where they are meant, and options begin with two

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections Parameters and Returns have types with shapes and units
autodoc_default_options = {"members": True}
add_module_names = False
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"openmm_duality {version}"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "start.html"}
templates_path = ["style"]
html_show_sphinx = False
html_copy_source = False


class PublicNames(SphinxDirective):
    """``public-names ROOM``: documentation of the public names of a room of the package."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Nodes of autodoc's directive for every name, in the order of the package's list."""
        room = self.arguments[0]
        self.env.metadata[self.env.docname][_ROOM + room] = True
        lines = []
        for name in duality._EXPORTS[room].split():
            kind = "autoclass" if inspect.isclass(getattr(duality, name)) else "autofunction"
            lines += [f".. {kind}:: openmm_duality.{name}", ""]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))  # the pages are Markdown


class CommandHelp(SphinxDirective):
    """``command-help``: what every command prints with ``--help``, one section for each."""

    def run(self) -> list[nodes.Node]:
        """Nodes of the sections, in the order of the command line."""
        top = click.Context(main, info_name="openmm-duality", max_content_width=_HELP_WIDTH, terminal_width=_HELP_WIDTH)
        lines = []
        for name, command in main.commands.items():
            help_text = command.get_help(click.Context(command, info_name=name, parent=top))
            lines += [f"## {name}", "", "```text", *help_text.splitlines(), "```", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _all_rooms(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of rooms whose public names no page has."""
    found = {key.removeprefix(_ROOM) for page in env.metadata.values() for key in page if key.startswith(_ROOM)}
    for room in sorted(duality._EXPORTS.keys() - found):
        getLogger(__name__).warning("no page has the public names of %s", room)


def setup(app: Sphinx) -> None:
    """Register the directives and the check with Sphinx."""
    app.add_directive("public-names", PublicNames)
    app.add_directive("command-help", CommandHelp)
    app.connect("env-check-consistency", _all_rooms)
