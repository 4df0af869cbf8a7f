"""The event loop under observation: how late it is, and what held it up."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from threading import Event, Thread, get_ident
from traceback import StackSummary, walk_stack
from typing import TYPE_CHECKING, Any, Protocol

from twisted.application.service import Service
from twisted.logger import Logger

from netapp.monitor.blocks import BlockDetector, LoopPolicy, Peak

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from twisted.internet.interfaces import IDelayedCall

    from netapp.monitor.blocks import Block
    from netapp.telemetry.metrics import Registry

_DEPTH = 25
"""Frames of a stack that are shown, the innermost ones: behind them are those of the reactor, always the same."""

_BLOCKED = "the event loop was blocked for {seconds:.2f} s"
_BLOCKED_AGAIN = _BLOCKED + "; {unreported} more blocks before were only counted"
_NO_STACK = "(no stack: the code kept the interpreter's lock, as some C extensions do)"

_JOIN = 1.0
"""Seconds to wait for the watchdog's end. It takes a look at most, some 0.1 ms."""

_WAITING = re.compile(r"twisted\.internet\.(\w*reactor|_glibbase)|selectors|netapp\.uvreactor(\.\w+)?")
"""Modules whose code, when it is the innermost, waits for events: the poll itself is C, and so has no frame."""


_REMEMBERED = 256
"""Measurements of lateness that are kept: half a minute of them, at the default interval."""
_RECENT = 1.0
"""Seconds that the news of a block may take to reach the loop."""
_NOTICEABLE = 0.005
"""Seconds by which a timer is late when something was in its way; a loop at ease is late by less."""


class Loop(Protocol):
    """What is needed of a reactor: IReactorTime and IReactorFromThreads."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object) -> IDelayedCall:  # noqa: A002 - Twisted's
        """Call after ``delay`` seconds."""

    def callFromThread(self, callable: Callable[..., Any], *args: object) -> None:  # noqa: A002 - Twisted's
        """Call in the loop's thread, at its next turn."""


class LoopMonitor(Service):
    """Measure the event loop's lag, and log each block with the stack that caused it.

    ``netapp_event_loop_lag_seconds`` is :meth:`lag`; ``netapp_event_loop_delay_seconds`` has how late each timer came;
    ``netapp_event_loop_blocks_total`` counts the blocks. The watchdog's thread lives from the loop's first turn, so
    that a slow start is no block, to :meth:`stopService`. ``now`` is monotonic.
    """

    _log = Logger()

    def __init__(
        self,
        loop: Loop,
        metrics: Registry,
        policy: LoopPolicy | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._policy = policy or LoopPolicy()
        self._now = now
        self._lag = Peak(self._policy.lag_decay)
        self._due = 0.0
        self._late: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        self._watchdog: Watchdog | None = None
        self._call: IDelayedCall | None = None
        metrics.gauge(
            "netapp_event_loop_lag_seconds", "How late the event loop is: the worst of late, fading."
        ).child().read = self.lag
        self._delays = metrics.histogram("netapp_event_loop_delay_seconds", "How late timers are called.").child()
        self._blocks = metrics.counter(
            "netapp_event_loop_blocks_total", "Times that the event loop did not turn for too long."
        ).child()

    def lag(self) -> float:
        """Seconds that the loop was late, the worst of late: it fades, so that a check after a block still sees it."""
        return self._lag.current(self._now())

    def startService(self) -> None:
        """Twisted calls this."""
        super().startService()
        self._call = self._loop.callLater(0, self._begin)

    def stopService(self) -> None:
        """Twisted calls this."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._call = self._watchdog = None

    def _begin(self) -> None:
        self._watchdog = Watchdog(self._loop, self._policy, self._blocked, self._now)
        self._watchdog.start()
        self._wait()

    def _wait(self) -> None:
        self._due = self._now() + self._policy.lag_interval
        self._call = self._loop.callLater(self._policy.lag_interval, self._measure)

    def _measure(self) -> None:
        now = self._now()
        late = max(0.0, now - self._due)
        self._late.append((now, late))
        self._lag.reach(late, now)
        self._delays.observe(late)
        self._wait()

    def _bears_out(self, block: Block) -> bool:
        """Whether a timer of the loop was late for it, or still is.

        A watchdog can be kept waiting by the interpreter's lock, for a loop that releases it often takes it again
        before anybody else wakes up. It then has not seen a loop turn that did.
        """
        now = self._now()
        since = now - block.seconds - _RECENT
        worst = max([now - self._due, *(late for when, late in self._late if when >= since)])
        # half of what must be expected: the block is known to half a threshold, and began anywhere between two timers
        least = (block.seconds - self._policy.lag_interval - self._policy.block_threshold / 2) / 2
        return worst >= max(_NOTICEABLE, least)

    def _blocked(self, block: Block) -> None:
        if not self._bears_out(block):
            return
        self._lag.reach(block.seconds - self._policy.block_threshold / 2, self._now())
        self._blocks.inc()
        if block.is_reported:
            self._log.warn(
                _BLOCKED_AGAIN if block.unreported else _BLOCKED,
                seconds=block.seconds,
                unreported=block.unreported,
                stack=block.stack or _NO_STACK,
            )


class Watchdog(Thread):
    """Watches the thread that makes it; tells of each block there, by a call of ``blocked`` from that thread's loop.

    A loop that waits for events is left in peace. Only one that is found at work is asked for a sign of life.
    """

    def __init__(
        self, loop: Loop, policy: LoopPolicy, blocked: Callable[[Block], None], now: Callable[[], float]
    ) -> None:
        super().__init__(name="netapp-loop-watchdog", daemon=True)
        self._loop = loop
        self._blocked = blocked
        self._now = now
        self._watched = get_ident()
        self._cpu = cpu_clock(self._watched)
        self._detector = BlockDetector(policy, now(), self._cpu(), suspended_seconds())
        self._asked = False
        self._answered: float | None = None
        self._stopped = Event()

    def run(self) -> None:
        """Look and rest, until stopped."""
        while not self._stopped.wait(self._detector.interval):
            self.look()

    def look(self) -> None:
        """Take one look at what the loop is doing."""
        if self._answered is not None:
            self._turned(self._answered)
            self._asked, self._answered = False, None
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the documented way
        if frame is None:
            return
        if not is_waiting(frame):
            self._examine(frame)
        elif not self._asked:
            self._turned(self._now())

    def stop(self) -> None:
        """End the thread, which is at rest nearly always."""
        self._stopped.set()
        if self.is_alive():
            self.join(_JOIN)

    def _examine(self, frame: FrameType) -> None:
        if self._detector.is_due(self._now()):
            self._detector.saw(describe(frame))
        if not self._asked:
            self._asked = True
            self._loop.callFromThread(self._answer)

    def _answer(self) -> None:
        self._answered = self._now()

    def _turned(self, now: float) -> None:
        block = self._detector.turned(now, self._cpu(), suspended_seconds())
        if block is not None:
            self._loop.callFromThread(self._blocked, block)


def is_waiting(frame: FrameType) -> bool:
    """Whether this innermost frame is a reactor's own, and so waits for events."""
    return _WAITING.fullmatch(frame.f_globals.get("__name__", "")) is not None


def describe(frame: FrameType) -> str:
    """Write a stack as tracebacks are written, the innermost call last."""
    stack = StackSummary.extract(walk_stack(frame), limit=_DEPTH)
    stack.reverse()
    return "".join(stack.format())


def cpu_clock(thread: int) -> Callable[[], float]:
    """Return a function that gives the seconds of processor time used by a thread, which must be alive.

    Where the system cannot tell one thread from another (pthread_getcpuclockid(3)), those of the whole process.
    """
    try:
        clock = time.pthread_getcpuclockid(thread)
    except (AttributeError, OSError):
        return time.process_time
    return lambda: time.clock_gettime(clock)


def suspended_seconds() -> float:
    """How long the machine was suspended since its boot; 0 where the system does not say (clock_gettime(2))."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    except (AttributeError, OSError):
        return 0.0
