"""Writes the command line's reference from its parser: what ``--help`` says is what the page says."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from docutils import nodes
from docutils.parsers.rst import Directive

from netapp import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

WIDTH: Final = 100


class CommandReference(Directive):
    """``{command-reference}`` has a section for the command and for each of its sub-commands."""

    def run(self) -> list[nodes.Node]:
        self.state.document.settings.env.note_dependency(cli.__file__)
        return [section for parser in parsers() for section in _section(parser)]


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Yield the command's parser, then those of its sub-commands, depth first."""
    yield from _below(cli._parser())  # noqa: SLF001 - the command's own documentation


def _below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from _below(below)


def help_of(parser: argparse.ArgumentParser) -> str:
    """Return what ``--help`` prints, whatever the terminal's width is."""
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)  # type: ignore[assignment]
    return parser.format_help().rstrip()


def _section(parser: argparse.ArgumentParser) -> list[nodes.Node]:
    section = nodes.section(ids=[nodes.make_id(parser.prog)])
    section += nodes.title(text=parser.prog)
    section += nodes.literal_block(text=help_of(parser), language="text")
    return [section]


def setup(app: Sphinx) -> dict[str, Any]:
    """Join Sphinx."""
    app.add_directive("command-reference", CommandReference)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
