"""The configuration as it may be shown: in logs, and by the admin listener."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct, structs

from netapp.config.typeinfo import inspect_type

if TYPE_CHECKING:
    from collections.abc import Mapping

HIDDEN: Final = "***"

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_SECRET: Final = re.compile(
    "apikey|auth(orization)?|cookie|credentials?|dsn|key|pass(phrase|wd|word)|pwd|salt|secrets?|signature|tokens?"
)
_HARMLESS: Final = re.compile("dir(ectory)?|file(name)?|folder|id|length|name|path|size|timeout")
"""What a name ends with that is about a secret and none itself: ``key_path``."""
_USER_INFO: Final = re.compile(r"(?<=://)[^/?#\s]*@")


def redacted(config: Struct) -> dict[str, Any]:
    """Turn a configuration into nested dicts of plain values, with every secret replaced by ``"***"``.

    Secret is what its field says is one; in a user's own options, what is named like one, and the user part of URLs.
    """
    return {
        field.encode_name: _redact_field(field.type, getattr(config, field.name)) for field in structs.fields(config)
    }


def _redact_field(annotation: Any, value: Any) -> Any:
    info = inspect_type(annotation)
    if info.unit == "secret":
        return HIDDEN if value else value
    if isinstance(value, Struct):
        return redacted(value)
    if isinstance(value, (tuple, list)):
        return [_redact_field(info.arguments[0] if info.is_sequence else Any, item) for item in value]
    if info.origin is dict:
        inner = info.arguments[1]
        return _redact_options(value) if inner is Any else {name: _redact_field(inner, value[name]) for name in value}
    return msgspec.to_builtins(value)


def _redact_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: HIDDEN if is_secret(name) and value else _redact_value(value) for name, value in options.items()}


def _redact_value(value: Any) -> Any:
    match value:
        case dict():
            return _redact_options(value)
        case list() | tuple():
            return [_redact_value(item) for item in value]
        case str():
            return _USER_INFO.sub(f"{HIDDEN}@", value)
        case _:
            return msgspec.to_builtins(value)


def is_secret(name: str) -> bool:
    """Say whether a name sounds like that of a secret: ``db_password``, ``apiKey``, but not ``key_path``."""
    words = [word.lower() for word in _WORD.findall(name)]
    is_about = any(_SECRET.fullmatch(word) for word in words) and "public" not in words
    return is_about and not _HARMLESS.fullmatch(words[-1])
