"""What the environment and the command line lay over the file.

A later layer wins, key by key:

1. the defaults,
2. the file,
3. the plain names of the environment (:data:`netapp.config.plain.PLAIN_NAMES`),
4. ``NETAPP__A__B=value`` of the environment,
5. ``--set a.b=value``, the last one of a key.

A value replaces what the key had, a whole table too. Its text is read as TOML where that fits the field (numbers,
booleans, arrays, inline tables), and is taken as it stands elsewhere, so that ``30s`` needs no quotes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from netapp.config.convert import DEEPEST, Text, as_table
from netapp.config.problem import Problem, fold, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from netapp.config.problem import Path

NESTED_PREFIX: Final = "NETAPP__"

_KEY_PART: Final = r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'"""
_KEY: Final = rf"(?:{_KEY_PART})(?:\.(?:{_KEY_PART}))*"
_SETTING: Final = re.compile(rf"\s*(?P<key>{_KEY})\s*=(?P<value>.*)", re.DOTALL | re.ASCII)


class Overlay:
    """Settings as nested dicts, the problems of those that could not be laid over, and who set what.

    ``tree`` is changed in place.
    """

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree
        self.problems: list[Problem] = []
        self._origins: dict[Path, str] = {}

    def put(self, path: Path, value: Any, origin: str) -> None:
        """Set one key. What stands on the way to it and is no table is replaced by one."""
        node: dict[Any, Any] = self.tree
        for part in path[:-1]:
            below = as_table(node.get(part))
            node[part] = below
            node = below
        node[path[-1]] = value
        self._origins[path] = origin

    def get(self, path: Path) -> Any:
        """Return what a key has; None where it is not set."""
        node: Any = self.tree
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def reject(self, path: Path, text: str, origin: str) -> None:
        """Add the problem of a setting that was not laid over."""
        self.problems.append(Problem(path, text, origin))

    def origin(self, path: Path) -> str:
        """Say who set the key, a table that it is in, or something inside it; empty for the file and the defaults."""
        outwards = (path[:end] for end in range(len(path), 0, -1))
        return next((self._origins[outer] for outer in outwards if outer in self._origins), "") or self._inside(path)

    def _inside(self, path: Path) -> str:
        """Say who set anything inside a table, whose fault then is probably theirs."""
        names = {name: None for inner, name in self._origins.items() if path and inner[: len(path)] == path}
        return ", ".join(names)

    def listeners(self) -> dict[str, Any]:
        """Return the kind of each listener by its name, as far as both are there."""
        return {name: as_table(given).get("kind") for name, given in as_table(self.get(("listeners",))).items()}


def lay_nested(overlay: Overlay, environ: Mapping[str, str]) -> None:
    """Lay ``NETAPP__A__B=value`` over the settings: outer tables first, so that what is set inside them stays."""
    for name, parts in sorted(_read_nested(environ), key=lambda item: (len(item[1]), item[0])):
        if all(parts) and len(parts) <= DEEPEST:
            overlay.put(_find_path(overlay, parts), Text(environ[name]), name)
        else:
            wanted = f"expected a name such as {NESTED_PREFIX}ADMIN__METRICS"
            overlay.reject((), f"{wanted}, found {shorten(name)}", "the environment")


def _read_nested(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    for name in environ:
        if name.upper().startswith(NESTED_PREFIX):
            yield name, name[len(NESTED_PREFIX) :].split("__")


def _find_path(overlay: Overlay, parts: list[str]) -> Path:
    path: Path = ()
    for part in parts:
        path = (*path, _match(as_table(overlay.get(path)), part))
    return path


def _match(table: dict[Any, Any], part: str) -> str:
    """Return the key that is meant: one that is there, whatever its case and hyphens, and else the lower case."""
    return next((key for key in table if isinstance(key, str) and fold(key) == fold(part)), part.lower())


def lay_sets(overlay: Overlay, sets: Sequence[str]) -> None:
    """Lay ``a.b=value`` over the settings. A part of the key that has a dot in it stands in quotes, as in TOML."""
    for setting in sets:
        found = _SETTING.fullmatch(setting)
        path = tuple(part.strip("\"'") for part in re.findall(_KEY_PART, found["key"])) if found else ()
        if found is None or len(path) > DEEPEST:
            overlay.reject((), f"expected KEY=VALUE such as 'admin.metrics=false', found {shorten(setting)}", "--set")
        else:
            overlay.put(path, Text(found["value"]), "--set")
