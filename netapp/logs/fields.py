"""What of an event is written, and in what form: secrets hidden, control characters visible, anything as JSON."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.logger import LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

if TYPE_CHECKING:
    from twisted.logger import LogEvent

HIDDEN = "***"

_MAX_TEXT = 8192
"""Characters of one text. A request target of the default limit fits; a body logged by mistake does not."""
_MAX_TRACEBACK = 65536
_MAX_ITEMS = 100
_MAX_DEPTH = 6
_MAX_INT = 2**63
"""What readers of JSON can be expected to hold."""

_SENSITIVE = re.compile(
    r"(?:password|passwd|passphrase|token|secret|authorization|cookie|api[_-]?key)s?\Z", re.IGNORECASE
)
_LEGACY = frozenset({"message", "time", "system", "isError", "format", "why", "failure", "logLevel"})
"""Keys that twisted.python.log adds to its own events, and says nothing with."""


def redacted(event: LogEvent) -> LogEvent:
    """Return a copy in which every field that is named like a secret is ``***``, also within dicts and lists.

    A field is named like a secret when its last word is: ``token``, ``api_token``, ``Set-Cookie``. Header lists, which
    are pairs of name and value, count as fields. An event's message is formatted from the copy.
    """
    clean = {name: value if name.startswith("log_") else _shown(name, value, 0) for name, value in event.items()}
    if "log_flattened" in clean and clean != event:
        del clean["log_flattened"]
    return clean


def _shown(name: object, value: object, depth: int) -> object:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if isinstance(name, str) and _is_sensitive(name):
        return HIDDEN
    kind = type(value)
    if depth >= _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {key: _shown(key, item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and kind in {list, tuple}:
        return kind(_shown_item(item, depth + 1) for item in value)
    return value


def _shown_item(item: object, depth: int) -> object:
    if type(item) is tuple and len(item) == 2:  # noqa: PLR2004 - a pair is a header's name and value
        return item[0], _shown(item[0], _shown_item(item[1], depth), depth)
    return _shown("", item, depth)


@lru_cache(1024)
def _is_sensitive(name: str) -> bool:
    return _SENSITIVE.search(name) is not None


def when(event: LogEvent) -> float:
    """Seconds since the epoch at which the event was emitted."""
    instant = event.get("log_time")
    return float(instant) if isinstance(instant, (int, float)) else time.time()


def level_of(event: LogEvent) -> str:
    """Name of the event's level; an event without one is information."""
    return str(getattr(event.get("log_level"), "name", LogLevel.info.name))


def namespace_of(event: LogEvent) -> str:
    """Where the event comes from."""
    return str(event.get("log_namespace") or "-")


def failure_of(event: LogEvent) -> Failure | None:
    """The failure that the event is about, in the way of either logging interface of Twisted."""
    found = event.get("log_failure", event.get("failure"))
    return found if isinstance(found, Failure) else None


def message_of(event: LogEvent) -> str:
    """The event's sentence. Never raises, whatever its format and its fields are."""
    if is_legacy(event) and failure_of(event) is not None:
        return shortened(safe_str(event.get("why") or "Unhandled Error"))
    return shortened(formatEvent(event).rstrip("\n"))


def is_legacy(event: LogEvent) -> bool:
    """Whether the event came through twisted.python.log."""
    return event.get("log_namespace") == "log_legacy"


def public_fields(event: LogEvent) -> dict[str, Any]:
    """The event's own fields, without those that the logging systems add."""
    added = _LEGACY if is_legacy(event) else frozenset()
    return {name: value for name, value in event.items() if not name.startswith("log_") and name not in added}


def traceback_of(failure: Failure) -> str:
    """The failure's traceback, which is bounded: a recursion's is not."""
    try:
        text = failure.getTraceback()
    except Exception as problem:  # noqa: BLE001 - a traceback shows the text of anybody's exception
        text = f"(no traceback: {safe_str(problem)})"
    return shortened(text, _MAX_TRACEBACK)


def shortened(text: str, limit: int = _MAX_TEXT) -> str:
    """Cut a text at ``limit`` characters, and say how many are missing."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def escaped(text: str) -> str:
    """Make every character visible that is not: what a peer sends must neither end a line nor move a cursor."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def json_safe(value: object, depth: int = 0) -> Any:
    """Turn anything into what JSON can hold; what it does not know becomes text.

    Long texts and sequences are cut, and deep ones, which may contain themselves, are text from a depth on.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, Failure):
        return json_failure(value)
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        items = list(value.items())[:_MAX_ITEMS]
        return {readable(key): json_safe(item, depth + 1) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)) and depth < _MAX_DEPTH:
        return [json_safe(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return readable(value)


def _number(value: float) -> float | str:
    if isinstance(value, int):
        return int(value) if abs(value) < _MAX_INT else readable(value)
    return float(value)


def readable(value: object) -> str:
    r"""Turn anything into text that UTF-8 can carry: bytes that are not UTF-8, and lone surrogates, are ``\xff``."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return shortened(bytes(value).decode("utf-8", "backslashreplace"))
    return _encodable(shortened(safe_str(value)))


def json_failure(failure: Failure) -> dict[str, str]:
    """A failure for machines: type, message and traceback."""
    kind = failure.type
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else str(kind),
        "message": _encodable(shortened(failure.getErrorMessage())),
        "traceback": _encodable(traceback_of(failure)),
    }


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
