"""Fills the generated parts of the configuration reference, so that it cannot differ from the schema.

A page marks each place with a comment, such as ``<!-- generated: tables -->``.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

from netapp.config.describe import render_markdown, struct_classes
from netapp.config.plain import PLAIN_NAMES, PlainName
from netapp.config.schema import DEFAULT_LISTENERS, AdminConfig, Config

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx

_MARK: Final = re.compile(r"<!-- generated: ([a-z ]+) -->")


def _plain_names() -> str:
    rows = [f"| `{plain.name}` | {_describe(plain)} |" for plain in PLAIN_NAMES]
    return "\n".join(["| name | sets |", "| --- | --- |", *rows])


def _describe(plain: PlainName) -> str:
    keys = ", ".join(f"`{key}`" for key in plain.keys)
    return {
        "value": keys,
        "host": f"the interface in {keys}",
        "port": f"the port in {keys}",
        "switch": f"whether there is {keys}",
    }[plain.part]


def _default_listeners() -> str:
    places = {name: (given["kind"], given["endpoint"]) for name, given in DEFAULT_LISTENERS.items()}
    rows = [f"| `listeners.{name}` | `{kind}` | `{endpoint}` |" for name, (kind, endpoint) in places.items()]
    admin = f"| `admin` | | `{AdminConfig().endpoint}` |"
    return "\n".join(["| listener | kind | endpoint |", "| --- | --- | --- |", *rows, admin])


PARTS: Final[dict[str, Callable[[], str]]] = {
    "tables": render_markdown,
    "plain names": _plain_names,
    "default listeners": _default_listeners,
}


def fill(text: str) -> str:
    """Replace each mark by its part; KeyError for a mark that stands for none."""
    return _MARK.sub(lambda mark: PARTS[mark[1]](), text)


def _on_source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    if not _MARK.search(content[0]):
        return
    content[0] = fill(content[0])
    for source in {inspect.getsourcefile(cls) for cls in struct_classes(Config)} | {__file__}:
        app.env.note_dependency(source, docname=docname)


def setup(app: Sphinx) -> dict[str, Any]:
    """Join Sphinx."""
    app.connect("source-read", _on_source_read)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
