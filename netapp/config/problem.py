"""What is wrong with a configuration, and where: one line each, in the words of whoever wrote it."""

from __future__ import annotations

import re
from datetime import date, time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str | int, ...]
"""The keys that lead to a value, outermost first; an integer is a position in an array."""

_BARE = re.compile(r"[A-Za-z0-9_*-]+", re.ASCII)
_LONGEST: Final = 60
"""Characters of a found value that are shown: enough to recognise it, and a problem stays one line."""
_FAMILIAR: Final = 0.6
"""Likeness from which a key is suggested for another (difflib's own default)."""


class Problem(Struct, frozen=True):
    """One fault: the key's path, what is wrong with it, and which source said so (empty for the file)."""

    path: Path
    text: str
    origin: str = ""

    def __str__(self) -> str:
        """Write the line that is shown."""
        origin = f" (from {self.origin})" if self.origin else ""
        return f"{show_path(self.path)}: {self.text}{origin}"


def show_path(path: Path) -> str:
    """Write a path as its keys stand in TOML: ``logging.levels.'netapp.http'``, ``admission.allow[2]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else shorten(part))
    return text or "configuration"


def show_value(value: Any) -> str:
    """Describe what was found. Text is quoted with everything escaped that a terminal could act upon."""
    if isinstance(value, int):
        return str(value).lower() if is_small(value) else "an integer of more than 64 bits"
    if isinstance(value, (date, time)):
        return f"the date {value.isoformat()}"
    words = {dict: "a table", list: "an array", tuple: "an array", type(None): "null"}
    return words.get(type(value)) or shorten(value)


def shorten(value: Any) -> str:
    """Write the value as Python does, cut to a length at which the line stays readable."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…{text[-1]}"


def is_small(number: int) -> bool:
    """Say whether a number is a signed 64-bit integer, all that TOML promises (TOML 1.0, "Integer")."""
    return -(2**63) <= number < 2**63


def fold(key: str) -> str:
    """Reduce a key to what is left of it in an environment's name: neither case nor hyphens."""
    return key.lower().replace("-", "_")


def suggest(key: str, known: Iterable[str]) -> str:
    """Say which known key was probably meant, or which there are; empty where none is known."""
    names = {fold(name): name for name in known}
    near = get_close_matches(fold(key), names, n=1, cutoff=_FAMILIAR)
    if near:
        return f"did you mean {names[near[0]]!r}?"
    return f"known are {', '.join(sorted(names.values()))}" if names else ""


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by path, positions in an array by number; the same fault is told once."""
    return sorted(dict.fromkeys(problems), key=lambda problem: [_rank(part) for part in problem.path])


def _rank(part: str | int) -> tuple[int, str]:
    return (part, "") if isinstance(part, int) else (-1, part)
