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

_log = Logger()


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

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = time.monotonic, tick: float = 0.1) -> None:
        self.now = now
        self._clock = clock
        self._tick = tick
        self._buckets: dict[int, set[Timed]] = {}
        self._next = 0
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        """How many things are held; for tests of leaks."""
        return sum(map(len, self._buckets.values()))

    def __bool__(self) -> bool:
        """True, also when nothing is held: ``timers or Timers(…)`` must not make a second wheel."""
        return True

    def arm(self, timed: Timed, deadline: float) -> None:
        """Set ``timed.deadline``, to an instant that may be nearer than the last one."""
        timed.deadline = deadline
        if deadline == NEVER:
            return
        slot = int(deadline / self._tick) + 1
        known = timed.slot
        if not known or known > slot:
            if known:
                self._remove(timed)
            self._file(timed, slot)

    def disarm(self, timed: Timed) -> None:
        """Forget ``timed``: it is gone, and its bucket must not keep it alive."""
        timed.deadline = NEVER
        if timed.slot:
            self._remove(timed)

    def _remove(self, timed: Timed) -> None:
        bucket = self._buckets.get(timed.slot)
        timed.slot = 0
        if bucket is not None:
            bucket.discard(timed)

    def _file(self, timed: Timed, slot: int) -> None:
        timed.slot = slot
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = {timed}
        else:
            bucket.add(timed)
        if self._call is None or slot < self._next:
            self._wake_at(slot)

    def _wake_at(self, slot: int) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._next = slot
        self._call = self._clock.callLater(max(0.0, slot * self._tick - self.now()), self._turn)

    def _turn(self) -> None:
        self._call = None
        now = self.now()
        current = int(now / self._tick)
        for slot in sorted(slot for slot in self._buckets if slot <= current):
            for timed in self._buckets.pop(slot):
                self._visit(timed, slot, now)
        if self._buckets:
            self._wake_at(min(self._buckets))

    def _visit(self, timed: Timed, slot: int, now: float) -> None:
        if timed.slot != slot:
            return  # disarmed, or filed anew, by one that was visited before it
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
            _log.failure("a deadline's action failed")
