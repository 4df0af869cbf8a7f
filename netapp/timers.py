"""Deadlines for very many connections at the price of almost nothing.

A connection has one deadline at a time, and nearly always the deadline moves away before it is reached: every
request pushes it out. So nothing is cancelled or rescheduled when it moves. The connection only stores the new
instant in its ``deadline``; the wheel holds it in the bucket of the instant at which it was last looked at, and when
that bucket comes up, it compares and files it again for what remains (lazy re-arming, as in nginx and in hashed
timing wheels, Varghese & Lauck 1987). Only a deadline that comes *nearer* needs :meth:`Timers.arm`.

Time is monotonic: a deadline neither fires nor starves because somebody set the wall clock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

NEVER = float("inf")


class Timed(Protocol):
    """What the wheel needs of a thing that has a deadline."""

    deadline: float
    """The instant, by the wheel's clock, at which :meth:`expired` is due; ``NEVER`` for none."""
    slot: int
    """The wheel's own: the bucket that holds this thing, 0 for none."""

    def expired(self, now: float) -> None:
        """Act on the deadline: it has passed. A new one may be armed from here."""


class Timers:
    """A timing wheel. ``clock`` turns it, ``now`` is the monotonic clock that deadlines are measured by.

    ``tick`` (seconds) is its precision: a deadline is acted upon at most one tick late and never early.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.monotonic, tick: float = 0.1) -> None:
        self.now = now
        self._clock = clock
        self._tick = tick
        self._buckets: dict[int, list[Timed]] = {}
        self._last = int(now() / tick)
        self._call: IDelayedCall | None = None

    def arm(self, timed: Timed, deadline: float) -> None:
        """Set ``timed.deadline``, to an instant that may be nearer than the last one."""
        timed.deadline = deadline
        if deadline == NEVER:
            return
        slot = max(int(deadline / self._tick) + 1, self._last + 1)
        if timed.slot and timed.slot <= slot:
            return
        self._file(timed, slot)

    def disarm(self, timed: Timed) -> None:
        """Forget ``timed``: it is gone, and its bucket must not keep it alive."""
        timed.deadline = NEVER
        bucket = self._buckets.get(timed.slot)
        timed.slot = 0
        if bucket is not None and len(bucket) < 64:  # noqa: PLR2004 - a longer one is left to be swept in its turn
            bucket[:] = [other for other in bucket if other is not timed]

    def _file(self, timed: Timed, slot: int) -> None:
        timed.slot = slot
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = [timed]
        else:
            bucket.append(timed)
        if self._call is None:
            self._last = max(self._last, int(self.now() / self._tick) - 1)
            self._call = self._clock.callLater(self._tick, self._turn)

    def _turn(self) -> None:
        self._call = None
        now = self.now()
        current = int(now / self._tick)
        due = [slot for slot in self._buckets if slot <= current] if current > self._last else []
        self._last = max(current, self._last)
        for slot in sorted(due):
            for timed in self._buckets.pop(slot):
                if timed.slot == slot:
                    self._visit(timed, now)
        if self._buckets and self._call is None:
            self._call = self._clock.callLater(self._tick, self._turn)

    def _visit(self, timed: Timed, now: float) -> None:
        timed.slot = 0
        deadline = timed.deadline
        if deadline > now:
            if deadline != NEVER:
                self._file(timed, int(deadline / self._tick) + 1)
            return
        timed.deadline = NEVER
        try:
            timed.expired(now)
        except Exception:  # noqa: BLE001 - one connection's defect must not stop every other one's deadline
            self._log.failure("a deadline's action failed")
