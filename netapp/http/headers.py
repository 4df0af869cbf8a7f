"""Header fields: an ordered multimap with case-insensitive names (RFC 9110 §5).

Held as the list of ``(lower-case name, value)`` byte pairs that goes over the wire, so that a parser fills it and a
serialiser joins it without a conversion. Everything that a program adds is checked: a name must be a token
(RFC 9110 §5.6.2) and a value must hold no CR, LF or NUL (§5.5), or a response could be split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RawHeaders = list[tuple[bytes, bytes]]

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def encode_name(name: str) -> bytes:
    """Return the wire form of a field name; ValueError when it is no token."""
    raw = name.encode("ascii", "replace").lower()
    if _TOKEN.fullmatch(raw) is None:
        raise ValueError(f"not a header field name: {name!r}")
    return raw


def encode_value(value: str) -> bytes:
    """Return the wire form of a field value; ValueError when it has a control character or is beyond Latin-1."""
    try:
        raw = value.encode("latin-1").strip(b" \t")
    except UnicodeEncodeError:
        raise ValueError(f"a header field value must be Latin-1: {value!r}") from None
    if _FORBIDDEN.search(raw) is not None:
        raise ValueError(f"a header field value must not hold control characters: {value!r}")
    return raw


class Headers:
    """Header fields in their order, e.g. ``Headers({"Content-Type": "text/plain"})``.

    ``raw`` is the list itself, for code that has valid bytes already.
    """

    __slots__ = ("raw",)

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        pairs = fields.items() if hasattr(fields, "items") else fields
        self.raw: RawHeaders = [(encode_name(name), encode_value(value)) for name, value in pairs]

    @classmethod
    def from_raw(cls, raw: RawHeaders) -> Headers:
        """Take a list of valid pairs as it is: names in lower case, nothing is checked and nothing copied."""
        made = cls.__new__(cls)
        made.raw = raw
        return made

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of ``name``."""
        wanted = name.lower().encode("latin-1", "replace")
        for key, value in self.raw:
            if key == wanted:
                return value.decode("latin-1")
        return default

    def get_all(self, name: str) -> list[str]:
        """Return every value of ``name``, in order."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self.raw if key == wanted]

    def tokens(self, name: str) -> list[str]:
        """Return the members of a comma-separated list field, lower-case and without white space (RFC 9110 §5.6.1)."""
        joined = ",".join(self.get_all(name))
        return [member for part in joined.split(",") if (member := part.strip().lower())]

    def add(self, name: str, value: str) -> None:
        """Append a field."""
        self.raw.append((encode_name(name), encode_value(value)))

    def set(self, name: str, value: str) -> None:
        """Replace every field of that name by this one."""
        field = (encode_name(name), encode_value(value))
        self.raw[:] = [pair for pair in self.raw if pair[0] != field[0]]
        self.raw.append(field)

    def remove(self, name: str) -> None:
        """Drop every field of that name."""
        unwanted = name.lower().encode("latin-1", "replace")
        self.raw[:] = [pair for pair in self.raw if pair[0] != unwanted]

    def copy(self) -> Headers:
        """Return an independent copy."""
        return Headers.from_raw(self.raw.copy())

    def __contains__(self, name: str) -> bool:
        wanted = name.lower().encode("latin-1", "replace")
        return any(key == wanted for key, _ in self.raw)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((key.decode("latin-1"), value.decode("latin-1")) for key, value in self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"
