"""Observers for twisted.logger: lines for people or for machines, by level, sampled under flood, to be rotated.

The way of an event: Twisted's chatter is demoted, the level decides, the flood filter counts, secrets are hidden, one
line is written. Whatever happens on that way, the application goes on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from twisted.logger import ILogObserver, Logger
from zope.interface import implementer

from netapp.logs.files import STDOUT, Descriptor, LogFile
from netapp.logs.flood import FloodFilter
from netapp.logs.levels import LevelFilter, demoted
from netapp.logs.observers import StreamObserver, json_observer, text_observer
from netapp.telemetry.metrics import Counter, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IReactorTime
    from twisted.logger import LogEvent

__all__ = [
    "FloodFilter",
    "LogFile",
    "LogObserver",
    "StreamObserver",
    "build_observer",
    "json_observer",
    "text_observer",
]

DEFAULT_FLOOD_LIMIT = 50.0
"""Events a second of one kind: more than anybody reads, and at 200 bytes each not a gigabyte a day."""

_log = Logger()


@implementer(ILogObserver)
class LogObserver:
    """The whole way of an event, as one observer."""

    def __init__(self, levels: LevelFilter, flood: FloodFilter) -> None:
        self._levels = levels
        self._flood = flood

    def __call__(self, event: LogEvent) -> None:
        """Take an event from twisted.logger."""
        event = demoted(event)
        if self._levels.passes(event):
            self._flood(event)

    def flush(self) -> None:
        """Write now what the flood filter has counted; for the end of a process."""
        self._flood.flush()


def build_observer(
    *,
    clock: IReactorTime,
    level: str = "info",
    format: Literal["text", "json"] = "text",  # noqa: A002 - the name of the setting
    levels: Mapping[str, str] | None = None,
    file: str = "",
    flood_limit: float = DEFAULT_FLOOD_LIMIT,
    metrics: Registry | None = None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[LogObserver, Callable[[], None]]:
    """Return an observer to begin logging to, and a function that reopens its file after rotation, which never raises.

    ``file`` is a path; empty is standard output. ``levels`` maps namespaces to levels. ``flood_limit`` is in events a
    second of one kind, ten times that for errors; 0 is no limit. Raises StartupError for a file that cannot be opened
    and ValueError for a level that does not exist.
    """
    metrics = Registry() if metrics is None else metrics
    lost = metrics.counter("netapp_log_write_errors_total", "Log events lost because writing them failed.").child()
    sampled = metrics.counter("netapp_log_suppressed_events_total", "Log events not written during a flood.").child()
    accepted = LevelFilter(level, levels)
    stream = LogFile(file) if file else Descriptor(STDOUT)
    written = (json_observer if format == "json" else text_observer)(stream, lost)
    flood = FloodFilter(written, flood_limit, clock, suppressed=sampled, now=now)
    return LogObserver(accepted, flood), lambda: _reopen(stream, lost)


def _reopen(stream: Descriptor, lost: Counter) -> None:
    if not isinstance(stream, LogFile):
        return
    try:
        stream.reopen()
    except OSError as problem:
        lost.inc()
        _log.error(
            "the log file {path} cannot be reopened, and the one that is open stays in use: {reason}",
            path=stream.path,
            reason=problem.strerror,
        )
