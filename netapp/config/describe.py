"""The configuration reference, generated: every key with its type, its default and the text below its field."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from msgspec import NODEFAULT, Struct, structs

from netapp.config.schema import Config
from netapp.config.typeinfo import describe_type, format_value, inspect_type, table_of

if TYPE_CHECKING:
    from collections.abc import Iterator


_QUOTED: Final = re.compile(r"'([^']*)'")


class Row(Struct, frozen=True):
    """One key: its name, its type in words, its default as it would stand in a file, and what it means."""

    key: str
    type: str
    default: str
    doc: str


class Table(Struct, frozen=True):
    """One table: its path (empty for the top), what it is for, whether it is absent by default, and its keys."""

    path: str
    doc: str
    is_optional: bool
    rows: tuple[Row, ...]


def describe(cls: type[Struct] = Config) -> list[Table]:
    """Describe every table of the configuration, in the order of its fields, outer ones first."""
    return list(_describe(cls, "", "", is_optional=False))


def _describe(cls: type[Struct], path: str, doc: str, *, is_optional: bool) -> Iterator[Table]:
    docs = field_docs(cls)
    fields = [(field, _inner(field)) for field in structs.fields(cls)]
    rows = [_describe_field(field, docs.get(field.name, "")) for field, inner in fields if inner is None]
    about = " ".join(filter(None, [inspect.cleandoc(cls.__doc__ or ""), doc]))
    yield Table(path, about, is_optional, tuple(rows))
    for field, inner in fields:
        if inner is not None:
            struct, suffix = inner
            below = f"{path}.{field.encode_name}{suffix}".removeprefix(".")
            yield from _describe(struct, below, docs.get(field.name, ""), is_optional=field.default is None)


def _inner(field: structs.FieldInfo) -> tuple[type[Struct], str] | None:
    """Return the struct that a field leads to, by itself or by name, and what comes between in the path."""
    struct = table_of(field.type)
    if struct is not None:
        return struct, ""
    info = inspect_type(field.type)
    named = table_of(info.arguments[1]) if info.origin is dict and info.arguments else None
    return None if named is None else (named, ".NAME")


def _describe_field(field: structs.FieldInfo, doc: str) -> Row:
    return Row(field.encode_name, describe_type(field.type), _default(field), doc)


def _default(field: structs.FieldInfo) -> str:
    if field.required:
        return ""
    value = field.default if field.default is not NODEFAULT else field.default_factory()
    return format_value(field.type, value)


def struct_classes(cls: type[Struct]) -> Iterator[type[Struct]]:
    """Return the struct and all that it leads to."""
    yield cls
    for field in structs.fields(cls):
        inner = _inner(field)
        if inner is not None:
            yield from struct_classes(inner[0])


@cache
def field_docs(cls: type[Struct]) -> dict[str, str]:
    """Read the text below each field from the source; nothing of a class whose source is not at hand."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, Struct) and base is not Struct:
            docs |= _read_docs(base)
    return docs


def _read_docs(cls: type[Any]) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    tree = ast.parse(source).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def render_markdown(cls: type[Struct] = Config) -> str:
    """Write the reference as Markdown: a section of the third level for each table, and an item for each key."""
    return "\n".join(line for table in describe(cls) for line in _render(table))


def _render(table: Table) -> Iterator[str]:
    if not (table.path and table.rows):
        return
    yield f"### `[{table.path}]`\n"
    note = " The table is absent by default; it is switched on by being there." if table.is_optional else ""
    yield f"{_one_line(table.doc)}{note}\n"
    for row in table.rows:
        default = f"default `{row.default}`" if row.default else "required"
        words = _QUOTED.sub(r"`\1`", row.type)
        yield f"- `{row.key}`: {words}; {default}.\n\n  {_one_line(row.doc)}\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())
