"""A log that survives a flood: each kind of event has a rate, and what is above it is counted instead of written."""

from __future__ import annotations

import time
from threading import RLock, get_ident
from typing import TYPE_CHECKING

from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from netapp.logs.fields import failure_of
from netapp.telemetry.metrics import Counter

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.logger import LogEvent

MAX_KINDS = 1024
"""How many kinds of events are told apart; beyond that they share one rate, so that memory stays bounded."""

INTERVAL = 5.0
"""Seconds after which the events that were not written are summed up in one line."""

ERROR_FACTOR = 10
"""Errors have this multiple of the rate: each is more likely to be needed, yet a thousand a second are not."""

_Kind = tuple[str, str, str, str]


class _Bucket:
    """One kind's tokens, and what it was refused since the last summary."""

    __slots__ = ("_filled", "_rate", "_tokens", "level", "since", "suppressed")

    def __init__(self, rate: float, level: LogLevel, now: float) -> None:
        self.level = level
        self.suppressed = 0
        self.since = now
        self._rate = rate
        self._tokens = max(rate, 1.0)
        self._filled = now

    def take(self, now: float) -> bool:
        """Whether one more event may pass."""
        self._tokens = min(max(self._rate, 1.0), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return True
        if not self.suppressed:
            self.since = now
        self.suppressed += 1
        return False

    def is_idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing: it is full again and owes no summary."""
        return not self.suppressed and self._tokens + (now - self._filled) * self._rate >= max(self._rate, 1.0)


@implementer(ILogObserver)
class FloodFilter:
    """Pass on ``limit`` events a second of each kind, with a burst of one second's worth; 0 passes everything.

    A kind is a namespace, a level, a format and the type of a failure. ``now`` is monotonic; ``clock`` only says when
    a summary is due. Events may come from any thread; summaries are written by the one that made the filter.
    """

    def __init__(
        self,
        observer: ILogObserver,
        limit: float,
        clock: IReactorTime,
        *,
        suppressed: Counter | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.suppressed = Counter() if suppressed is None else suppressed
        self._observer = observer
        self._limit = limit
        self._clock = clock
        self._now = now
        self._kinds: dict[_Kind, _Bucket] = {}
        self._swept = now()
        # Reentrant: the collection of a Deferred that failed unheard logs, in the middle of whatever allocates.
        self._lock = RLock()
        self._owner = get_ident()
        self._call: IDelayedCall | None = None
        self._owing = False

    def __call__(self, event: LogEvent) -> None:
        """Take an event from twisted.logger."""
        if not self._limit or self._admit(event):
            self._observer(event)
        if self._owing and self._call is None and get_ident() == self._owner:
            self._call = self._clock.callLater(INTERVAL, self.flush)

    def flush(self) -> None:
        """Write the summaries that are owed."""
        call, self._call, self._owing = self._call, None, False
        if call is not None and call.active():
            call.cancel()
        with self._lock:
            now = self._now()
            owed = [(kind, bucket, bucket.suppressed) for kind, bucket in self._kinds.items() if bucket.suppressed]
            for _, bucket, _ in owed:
                bucket.suppressed = 0
        for kind, bucket, count in owed:
            self._observer(_summary(kind, bucket, count, now))

    def _admit(self, event: LogEvent) -> bool:
        with self._lock:
            now = self._now()
            if self._bucket(event, now).take(now):
                return True
            self.suppressed.inc()
            self._owing = True
            return False

    def _bucket(self, event: LogEvent, now: float) -> _Bucket:
        level = event.get("log_level", LogLevel.info)
        kind = _kind(event, level)
        found = self._kinds.get(kind)
        if found is None and self._is_full(now):
            kind = ("", level.name, "events of too many kinds to tell apart", "")
            found = self._kinds.get(kind)
        if found is None:
            rate = self._limit * ERROR_FACTOR if level >= LogLevel.error else self._limit
            found = self._kinds[kind] = _Bucket(rate, level, now)
        return found

    def _is_full(self, now: float) -> bool:
        room = MAX_KINDS - len(list(LogLevel.iterconstants()))
        if len(self._kinds) >= room and now - self._swept >= INTERVAL:
            self._swept = now
            self._kinds = {kind: bucket for kind, bucket in self._kinds.items() if not bucket.is_idle(now)}
        return len(self._kinds) >= room


def _kind(event: LogEvent, level: LogLevel) -> _Kind:
    failure = failure_of(event)
    return (
        str(event.get("log_namespace", "")),
        level.name,
        str(event.get("log_format", "")),
        "" if failure is None else str(failure.type),
    )


def _summary(kind: _Kind, bucket: _Bucket, count: int, now: float) -> LogEvent:
    return {
        "log_time": time.time(),
        "log_level": bucket.level,
        "log_namespace": kind[0] or __name__,
        "log_format": "{similar} … {suppressed:,} similar events were not written in the last {seconds:.0f} s",
        "similar": kind[2],
        "suppressed": count,
        "seconds": max(now - bucket.since, 1.0),
    }
