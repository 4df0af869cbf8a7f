"""A configuration file, read into nested dicts: TOML or JSON. A fault of syntax is told with its line and column."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final, NoReturn

from netapp.config.convert import DEEPEST, is_too_deep
from netapp.errors import ConfigError

_LARGEST: Final = 4 * 1024 * 1024
"""Bytes. No configuration is this large; a device or a core dump given by mistake may be."""

_REFUSED: Final = {".yaml": "YAML", ".yml": "YAML", ".ini": "INI", ".cfg": "INI", ".xml": "XML"}
_PLACE: Final = re.compile(
    r"(?P<text>.*) \((?:at line (?P<line>\d+), column (?P<column>\d+)|at end of document)\)", re.DOTALL
)


def read_document(name: str) -> dict[str, Any]:
    """Read the file: TOML where it is called ``.toml``, JSON where ``.json``, and by its first character elsewhere.

    Raises ConfigError where it is missing, unreadable, of another type, or not well-formed.
    """
    path = Path(name)
    suffix = path.suffix.lower()
    if suffix in _REFUSED:
        raise ConfigError([f"{name}: expected a TOML or JSON file, found one called {_REFUSED[suffix]}"])
    text = _read_text(path, name)
    is_json = suffix == ".json" or (suffix != ".toml" and text.lstrip().startswith("{"))
    try:
        document = _parse_json(text, name) if is_json else _parse_toml(text, name)
    except RecursionError:
        document = None
    if document is None or is_too_deep(document):
        raise ConfigError([f"{name}: expected at most {DEEPEST} levels of tables and arrays, found more"])
    return document


def _read_text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError([f"{name}: cannot be read: {error.strerror or error}"]) from None
    except ValueError as error:
        raise ConfigError([f"{name!r}: expected the name of a file ({error})"]) from None
    if len(data) > _LARGEST:
        raise ConfigError([f"{name}: expected a configuration, found a file of more than {_LARGEST} bytes"])
    try:
        # A byte order mark is what some editors write; it is not an error of the person who used one.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError([f"{name}:{line}:{column}: expected UTF-8 text, found {data[error.start :][:1]!r}"]) from None


def _parse_toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ConfigError([f"{name}{_explain_toml(str(error), text)}"]) from None


def _explain_toml(error: str, text: str) -> str:
    """Put the line and the column in front; a number that is too long to be read comes without them."""
    found = _PLACE.fullmatch(error)
    if found is None:
        return f": not TOML: {error}"
    lines = text.split("\n")
    line, column = found["line"] or len(lines), found["column"] or len(lines[-1]) + 1
    return f":{line}:{column}: not TOML: {found['text']}"


def _parse_json(text: str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ConfigError([f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}"]) from None
    except ValueError as error:
        raise ConfigError([f"{name}: not JSON: {error}"]) from None
    if not isinstance(document, dict):
        raise ConfigError([f"{name}: expected a JSON object, found {type(document).__name__}"])
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what json itself lets pass: of two equal keys it would silently take the last."""
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return document


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
