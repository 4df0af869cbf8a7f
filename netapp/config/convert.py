"""From what a file or the environment said to structs, with every fault on the way and not only the first.

:func:`msgspec.convert` stops at the first error, so the structs are walked here, and msgspec judges the single values.
A part that has a fault is left out of what is built, and its neighbours are still looked at.
"""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

from netapp.config.endpoint import parse_endpoint
from netapp.config.problem import Problem, fold, is_small, show_value, suggest
from netapp.config.typeinfo import TypeInfo, describe_type, inspect_type, is_struct, table_of
from netapp.units import parse_cidr, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netapp.config.problem import Path

INVALID: Final = object()
"""Stands for a value that cannot be built; the problems say why."""

DEEPEST: Final = 32
"""Levels of nesting that are read; no configuration is deeper, and no walk over one runs out of stack."""

_BOOLEANS: Final = {
    "1": True,
    "yes": True,
    "on": True,
    "0": False,
    "no": False,
    "off": False,
    "true": True,
    "false": False,
}
_NOTHING: Final = frozenset({"none", "null"})
_QUANTITIES: Final[dict[str, Callable[[str], float]]] = {"duration": parse_duration, "size": parse_size}
_FORMS: Final[dict[str, Callable[[str], object]]] = {"cidr": parse_cidr, "endpoint": parse_endpoint}


_NEAR: Final = 0.8
"""Likeness from which a key of another table is suggested; more than in its own, where it is likelier meant."""


class Text(str):
    """A value from the environment or the command line, whose type only its field can tell."""

    __slots__ = ()


class Converter:
    """One walk. ``problems`` are those found so far, ``built`` every value that was good, by its path."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.built: dict[Path, Any] = {}

    def convert(self, annotation: Any, value: Any, path: Path = ()) -> Any:
        """Build what the annotation asks for, or return :data:`INVALID` and add to ``problems``. Never raises."""
        info = inspect_type(annotation)
        if isinstance(value, Text):
            result = self._convert_text(annotation, value, path)
        elif value is None and info.is_optional:
            result = None
        elif info.members:
            result = self._convert_union(info, value, path)
        else:
            result = self._convert_one(annotation, info, value, path)
        if result is not INVALID:
            self.built[path] = result
        return result

    def reject(self, path: Path, expected: str, value: Any) -> Any:
        """Add the problem that something else was expected."""
        self.problems.append(Problem(path, f"expected {expected}, found {show_value(value)}"))
        return INVALID

    def _convert_one(self, annotation: Any, info: TypeInfo, value: Any, path: Path) -> Any:
        if info.is_table and not isinstance(value, dict):
            return self.reject(path, "a table", value)
        if is_struct(info.base):
            return self._convert_struct(info.base, value, path)
        if info.origin is dict and info.arguments:
            return self._convert_mapping(info, value, path)
        if info.is_sequence and isinstance(value, (list, tuple)):
            return self._convert_sequence(info, value, path)
        return self._convert_leaf(annotation, info, value, path)

    def _convert_struct(self, cls: type[msgspec.Struct], value: dict[str, Any], path: Path) -> Any:
        fields = {field.encode_name: field for field in structs.fields(cls)}
        self._reject_unknown(cls, value, path)
        known = {
            field.name: self.convert(field.type, value[name], (*path, name))
            for name, field in fields.items()
            if name in value
        }
        missing = [field for name, field in fields.items() if field.required and name not in value]
        for field in missing:
            self._add((*path, field.encode_name), f"missing, expected {describe_type(field.type)}")
        if missing or INVALID in known.values():
            return INVALID
        try:
            return cls(**known)
        except (ValueError, TypeError) as error:
            return self._blame(str(error), value, path)

    def _blame(self, text: str, value: dict[str, Any], path: Path) -> Any:
        """Add a struct's own complaint, at the key that it begins with or else at the table."""
        key, _, rest = text.partition(" ")
        if key in value and rest.startswith("must "):
            return self._add((*path, key), f"{rest}, found {show_value(value[key])}")
        return self._add(path, text)

    def _reject_unknown(self, cls: type[msgspec.Struct], value: Iterable[str], path: Path) -> None:
        known = [field.encode_name for field in structs.fields(cls)]
        for key in map(str, value):
            if key not in known:
                hint = _suggest_below(cls, key, known) or suggest(key, known)
                self._add((*path, key), f"unknown key, {hint}" if hint else "unknown key")

    def _convert_mapping(self, info: TypeInfo, value: dict[str, Any], path: Path) -> Any:
        key_type, value_type = info.arguments
        names = Converter()
        result = {
            names.convert(key_type, key, (*path, key)): self.convert(value_type, item, (*path, key))
            for key, item in value.items()
        }
        self.problems += names.problems
        return INVALID if INVALID in result or INVALID in result.values() else result

    def _convert_sequence(self, info: TypeInfo, value: Iterable[Any], path: Path) -> Any:
        items = [self.convert(info.arguments[0], item, (*path, index)) for index, item in enumerate(value)]
        return INVALID if INVALID in items else info.origin(items)

    def _convert_leaf(self, annotation: Any, info: TypeInfo, value: Any, path: Path) -> Any:
        try:
            if is_storable(value):
                return msgspec.convert(_read_unit(info, value), annotation)
        except msgspec.ValidationError:
            return self._reject_leaf(annotation, info, value, path)
        except ValueError as error:
            return self._add(path, f"{error}, found {show_value(value)}")
        return self._add(path, f"expected at most {DEEPEST} levels, 64-bit numbers, and UTF-8 text without NUL")

    def _reject_leaf(self, annotation: Any, info: TypeInfo, value: Any, path: Path) -> Any:
        found = "something else, which is not shown" if info.unit == "secret" else show_value(value)
        near = suggest(value, map(str, info.choices)) if info.choices and isinstance(value, str) else ""
        hint = f"; {near}" if near.startswith("did") else ""
        return self._add(path, f"expected {describe_type(annotation)}, found {found}{hint}")

    def _convert_union(self, info: TypeInfo, value: Any, path: Path) -> Any:
        """Take the first alternative that fits; where none does, tell the problems of the one that is meant."""
        trials = [self._try(member, value, path) for member in info.members]
        tables = [trial for trial in trials if trial.is_table] if isinstance(value, dict) else []
        return self._adopt(trials, blamed=tables[0] if tables else trials[0])

    def _convert_text(self, annotation: Any, text: Text, path: Path) -> Any:
        """Read text as TOML where that fits the field, and else take it as it stands."""
        trials = [self._try(annotation, value, path) for value in _readings(annotation, text)]
        return self._adopt(trials, blamed=trials[0])

    def _try(self, annotation: Any, value: Any, path: Path) -> _Trial:
        trial = _Trial(is_table=table_of(annotation) is not None)
        trial.result = trial.convert(annotation, value, path)
        return trial

    def _adopt(self, trials: list[_Trial], blamed: _Trial) -> Any:
        chosen = next((trial for trial in trials if not trial.problems), blamed)
        self.problems += chosen.problems
        self.built |= chosen.built
        return chosen.result

    def _add(self, path: Path, text: str) -> Any:
        self.problems.append(Problem(path, text))
        return INVALID


class _Trial(Converter):
    """A walk that may turn out not to count."""

    def __init__(self, *, is_table: bool) -> None:
        super().__init__()
        self.is_table = is_table
        self.result: Any = INVALID


def _read_unit(info: TypeInfo, value: Any) -> Any:
    """Turn the text of a quantity into a number, and check the form of other text; ValueError for bad text."""
    if not isinstance(value, str):
        return value
    if info.unit in _FORMS:
        _FORMS[info.unit](value)
    read = _QUANTITIES.get(info.unit)
    return value if read is None else read(value)


def read_toml_value(text: str) -> Any:
    """Read one TOML value; :data:`INVALID` where the text is none."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return INVALID
    return document["value"] if len(document) == 1 else INVALID


def as_table(value: Any) -> dict[str, Any]:
    """Return the table that a value is, or is the text of; an empty one for anything else."""
    found = read_toml_value(value) if isinstance(value, Text) else value
    return found if isinstance(found, dict) else {}


def is_storable(value: Any) -> bool:
    """Say whether a value can be kept, shown and written again.

    That is: not too deep, integers of 64 bits, finite numbers, and text that UTF-8 and the kernel can take.
    """
    return not is_too_deep(value) and all(_is_plain(item) for level in _levels(value) for item in level)


def is_too_deep(value: Any) -> bool:
    """Say whether arrays and tables are nested in each other beyond :data:`DEEPEST`."""
    return next(islice(_levels(value), DEEPEST, None), None) is not None


def _levels(value: Any) -> Iterator[list[Any]]:
    level = [value]
    while level:
        yield level
        level = [inner for outer in level for inner in _contents(outer)]


def _is_plain(value: Any) -> bool:
    match value:
        case int():
            return is_small(value)
        case float():
            return isfinite(value)
        case str():
            return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)
        case _:
            return True


def _contents(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, (list, tuple)) else ()


def _readings(annotation: Any, text: Text) -> list[Any]:
    """Return what text can mean for a field, the likeliest first."""
    info = inspect_type(annotation)
    plain, folded = str(text), text.strip().lower()
    readings = [] if (value := read_toml_value(plain)) is INVALID else [value]
    if info.is_optional and folded in _NOTHING:
        readings.append(None)
    if folded in _BOOLEANS and bool in {info.base, *info.members}:
        readings.append(_BOOLEANS[folded])
    if folded in info.choices:
        readings.append(folded)
    return [*readings, plain]


def _suggest_below(cls: type[msgspec.Struct], key: str, known: Iterable[str]) -> str:
    """Say where a key belongs that is known, or nearly, one level further down."""
    places: dict[str, list[str]] = {}
    for field in structs.fields(cls):
        inner = table_of(field.type)
        for below in structs.fields(inner) if inner is not None else ():
            places.setdefault(below.encode_name, []).append(f"'{field.encode_name}.{below.encode_name}'")
    near = get_close_matches(fold(key), [*known, *places], n=1, cutoff=_NEAR)
    return f"did you mean {' or '.join(places[near[0]])}?" if near and near[0] in places else ""
