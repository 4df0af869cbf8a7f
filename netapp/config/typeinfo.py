"""What a field's annotation asks for: taken apart for the converter, and put in words for people."""

from __future__ import annotations

import types
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeGuard, Union, get_args, get_origin

from msgspec import Meta, Struct

from netapp.units import format_duration, format_size

_NONE: Final = type(None)
_SEQUENCES: Final = (list, tuple, set, frozenset)
_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    dict: "a table",
    Any: "any value",
}
_UNITS: Final = {
    "duration": "a duration such as '250ms', '30s' or '5m'",
    "size": "a size such as '64KiB' or '1MiB'",
    "cidr": "a network such as '10.0.0.0/8' or '::1/128'",
    "endpoint": "an endpoint such as 'tcp:8080:interface=127.0.0.1' or 'unix:/run/netapp.sock'",
    "secret": "text",
}
_LIMITS: Final = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
_BOUNDLESS: Final = 1e12
"""A limit from here on only says that a unit ends somewhere, and is not worth a word."""


class TypeInfo(Struct, frozen=True):
    """An annotation without its marks, and what the marks said.

    ``base`` is a class, ``Any``, or a generic such as ``dict[str, int]``; ``unit`` one of :mod:`netapp.units`' marks
    (empty for none); ``limits`` maps ``ge``, ``gt``, ``le``, ``lt`` to numbers; ``words`` is the mark's description.
    """

    base: Any
    unit: str = ""
    limits: dict[str, float] = {}
    words: str = ""

    @property
    def origin(self) -> Any:
        """``dict`` of ``dict[str, int]``, and the base itself of what is no generic."""
        return get_origin(self.base) or self.base

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The parameters of a generic."""
        return get_args(self.base)

    @property
    def is_sequence(self) -> bool:
        """Whether an array of any length is asked for."""
        return self.origin in _SEQUENCES and bool(self.arguments) and self.arguments[1:] in {(), (...,)}

    @property
    def is_table(self) -> bool:
        """Whether a table is asked for: a struct, or a dict."""
        return is_struct(self.base) or self.origin is dict

    @property
    def members(self) -> tuple[Any, ...]:
        """The alternatives of a union, None left out; empty for anything else."""
        if self.origin not in {Union, types.UnionType}:
            return ()
        return tuple(member for member in self.arguments if member is not _NONE)

    @property
    def is_optional(self) -> bool:
        """Whether None will do."""
        return self.base in {None, _NONE} or (bool(self.members) and _NONE in self.arguments)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal or an Enum; empty for anything else."""
        if self.origin is Literal:
            return self.arguments
        if isinstance(self.base, type) and issubclass(self.base, Enum):
            return tuple(member.value for member in self.base)
        return ()


def inspect_type(annotation: Any) -> TypeInfo:
    """Take an annotation apart. Of several marks the outermost counts."""
    if get_origin(annotation) is not Annotated:
        return TypeInfo(annotation)
    base, *marks = get_args(annotation)
    marks = [mark for mark in marks if isinstance(mark, Meta)]
    limits = {name: value for mark in marks for name in _LIMITS if (value := getattr(mark, name)) is not None}
    unit = next((mark.extra["unit"] for mark in reversed(marks) if mark.extra and "unit" in mark.extra), "")
    words = next((mark.description for mark in reversed(marks) if mark.description), "")
    return TypeInfo(base, unit, limits, words)


def is_struct(base: Any) -> TypeGuard[type[Struct]]:
    """Say whether this is a class of structs."""
    return isinstance(base, type) and issubclass(base, Struct)


def table_of(annotation: Any) -> type[Struct] | None:
    """Return the struct that an annotation asks for, by itself or optionally."""
    info = inspect_type(annotation)
    candidates = (info.base, *(inspect_type(member).base for member in info.members))
    return next((base for base in candidates if is_struct(base)), None)


def describe_type(annotation: Any) -> str:
    """Say in words what fits the annotation: ``"an integer of at least 1"``."""
    info = inspect_type(annotation)
    if info.choices:
        return f"one of {', '.join(repr(choice) for choice in info.choices)}"
    if info.members:
        return " or ".join(describe_type(member) for member in info.members)
    if info.is_sequence:
        return f"an array, each item {describe_type(info.arguments[0])}"
    if is_struct(info.base):
        return "a table"
    words = _UNITS.get(info.unit) or _WORDS.get(info.origin) or str(info.origin)
    note = f" ({info.words})" if info.words and not info.unit else ""
    return words + _describe_limits(info) + note


def _describe_limits(info: TypeInfo) -> str:
    """Put limits in words, but for those that only say that the unit has no negative values, or an end."""
    told = [
        f"{_LIMITS[name]} {limit:g}"
        for name, limit in info.limits.items()
        if not (info.unit and (limit >= _BOUNDLESS or (name == "ge" and limit == 0)))
    ]
    return f" {' and '.join(told)}" if told else ""


def format_value(annotation: Any, value: Any) -> str:
    """Write a value as it would stand in a file, in the unit of its annotation."""
    info = inspect_type(annotation)
    match info.unit:
        case "duration":
            return f'"{format_duration(value)}"'
        case "size":
            return f'"{format_size(value)}"'
        case _:
            return _format_plain(value)


def _format_plain(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list() | tuple() | set() | frozenset():
            return f"[{', '.join(map(_format_plain, value))}]"
        case dict():
            return "{}" if not value else "{…}"
        case None:
            return "none"
        case _:
            return str(value)
