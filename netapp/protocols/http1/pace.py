"""Is the content of a request arriving fast enough? Pure arithmetic; ``now`` is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netapp.protocols.http1.policy import HttpPolicy

LOOK = 1.0
"""Seconds between two looks at content that has to keep a minimum rate."""


class Pace:
    """The clock of one request's content. It stands still while we are the ones who do not read."""

    __slots__ = ("_moved", "_paused", "_seen", "_start", "received")

    def __init__(self, now: float) -> None:
        self.received = 0
        self._start = now
        self._moved = now
        self._seen = 0
        self._paused: float | None = None

    @property
    def paused(self) -> bool:
        """Whether we are the ones who do not read."""
        return self._paused is not None

    def pause(self, now: float) -> None:
        """We stop reading."""
        if self._paused is None:
            self._paused = now

    def resume(self, now: float) -> None:
        """We read on: the time that we did not is nobody's delay."""
        if self._paused is not None:
            self._start += now - self._paused
            self._moved += now - self._paused
            self._paused = None

    def look(self, now: float, policy: HttpPolicy) -> str | None:
        """Return the rule that the client broke, or None."""
        if self._paused is not None:
            return None
        if self.received != self._seen:
            self._seen = self.received
            self._moved = now
        elif now - self._moved >= policy.body_timeout:
            return "body_timeout"
        if self.received < policy.min_body_rate * (now - self._start - policy.body_grace):
            return "min_body_rate"
        return None
