"""Two forms of a log: lines for people, JSON lines for machines. Both write one event at a time and never raise."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import json
from twisted.logger import ILogObserver
from twisted.python.reflect import safe_str
from zope.interface import implementer

from netapp.logs import fields
from netapp.telemetry.health import rfc3339
from netapp.telemetry.metrics import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.logger import LogEvent

_SHOWN = (
    "id",
    "request_id",
    "listener",
    "peer",
    "proxy",
    "protocol",
    "method",
    "target",
    "path",
    "status",
    "bytes",
    "bytes_in",
    "bytes_out",
    "received",
    "sent",
    "seconds",
    "end",
    "why",
    "rule",
    "detail",
)
"""Fields of connection and request events that are worth their place on a line, in this order."""

_INDENT = "    "


class Stream(Protocol):
    """Where lines go: an open text file, or :class:`netapp.logs.files.LogFile`."""

    def write(self, text: str, /) -> object:
        """Write the whole text."""


@implementer(ILogObserver)
class StreamObserver:
    """Write each event to a stream, in a form that ``render`` decides.

    A full disk, a closed pipe and a defect in ``render`` cost the event and are counted in ``errors``: an application
    that cannot log still has work to do.
    """

    def __init__(self, stream: Stream, render: Callable[[LogEvent], str], errors: Counter | None = None) -> None:
        self._write = stream.write
        self._flush: Callable[[], object] | None = getattr(stream, "flush", None)
        self._render = render
        self.errors = Counter() if errors is None else errors

    def __call__(self, event: LogEvent) -> None:
        """Take an event from twisted.logger."""
        try:
            self._write(self._render(event))
            if self._flush is not None:
                self._flush()
        except Exception:  # noqa: BLE001 - see above; nor can it be logged, since this is the log
            self.errors.inc()


def text_observer(stream: Stream, errors: Counter | None = None) -> StreamObserver:
    """Write lines for people: ISO time, level, namespace, message, and ``key=value`` of what a connection is known by.

    Whatever a peer sends stays on the line of its event. Tracebacks, and the ``stack`` of an event, are indented below.
    """
    return StreamObserver(stream, _line, errors)


def json_observer(stream: Stream, errors: Counter | None = None) -> StreamObserver:
    """Write one JSON object a line: ``time`` (RFC 3339), ``level``, ``namespace``, ``message``, the event's own fields.

    A field of one of those names is written with an underscore behind it. A failure is ``type``, ``message`` and
    ``traceback``; what JSON does not know is written as ``str`` has it.
    """
    return StreamObserver(stream, _json_line, errors)


def _line(event: LogEvent) -> str:
    event = fields.redacted(event)
    instant = datetime.fromtimestamp(fields.when(event)).astimezone().isoformat(timespec="milliseconds")
    head = f"{instant} {fields.level_of(event):8} [{fields.namespace_of(event)}] {fields.message_of(event)}"
    parts = [fields.escaped(head), *_pairs(event)]
    return "\n".join([" ".join(parts), *_below(event)]) + "\n"


def _pairs(event: LogEvent) -> Iterator[str]:
    told = _names_in(str(event.get("log_format") or ""))
    for name in _SHOWN:
        value = event.get(name)
        if value is not None and name not in told:
            yield f"{name}={_quoted(value)}"


@lru_cache(512)
def _names_in(log_format: str) -> frozenset[str]:
    try:
        return frozenset(name.partition(".")[0] for _, name, _, _ in Formatter().parse(log_format) if name)
    except ValueError:
        return frozenset()


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else fields.readable(value)
    if text and not any(char in text for char in ' "=\\') and text.isprintable():
        return text
    return '"' + fields.escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _below(event: LogEvent) -> Iterator[str]:
    failure = fields.failure_of(event)
    for text in (event.get("stack"), fields.traceback_of(failure) if failure is not None else None):
        if isinstance(text, str):
            for line in text.rstrip().split("\n"):
                yield _INDENT + fields.escaped(line.expandtabs())


def _json_line(event: LogEvent) -> str:
    event = fields.redacted(event)
    try:
        return json.encode(_object(event)).decode() + "\n"
    except Exception as problem:  # noqa: BLE001 - fields hold anybody's objects, and the event is worth more than they
        return json.encode(_head(event, f"an event that cannot be written: {safe_str(problem)}")).decode() + "\n"


def _object(event: LogEvent) -> dict[str, Any]:
    written = _head(event, fields.message_of(event))
    failure = fields.failure_of(event)
    if failure is not None:
        written["failure"] = fields.json_failure(failure)
    for name, value in fields.public_fields(event).items():
        written[f"{name}_" if name in written else name] = fields.json_safe(value)
    return written


def _head(event: LogEvent, message: str) -> dict[str, Any]:
    return {
        "time": rfc3339(fields.when(event)),
        "level": fields.level_of(event),
        "namespace": fields.json_safe(fields.namespace_of(event)),
        "message": fields.json_safe(message),
    }
