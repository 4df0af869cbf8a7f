"""Was the event loop blocked, by what, and how late is it? Decided here, from instants and stacks, without a thread.

A watchdog in another thread looks at the loop's stack a few times in what counts as a block. A loop that waits for
events is alive, and so is one that answers a call from the watchdog: those are the instants at which it *turned*. A
long time between two of them is a block if something ran in it. What does not count is time in which the machine was
suspended, or did not let the process run: then no look saw anything at work, and the loop's thread used no processor
time. The latter also tells of code that keeps the interpreter's lock, and with it the watchdog, to itself.
"""

from __future__ import annotations

from math import exp

from msgspec import Struct

from netapp.units import Duration

_SUSPENDED = 0.25
"""Seconds by which the clock that counts a suspend must have gained on the one that does not."""

_BURST = 5
"""Blocks that are reported with their stacks before the rate applies."""


class LoopPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How closely the event loop is watched."""

    lag_interval: Duration = 0.1
    """Seconds between two measurements of how late a timer is. Default: as long as the shortest block, so that one of
    them falls into every block and bears it out."""
    lag_decay: Duration = 5.0
    """Seconds in which the lag that was reached fades to 37 %. Default: a check every few seconds sees each block."""
    block_threshold: Duration = 0.1
    """Seconds without a turn that are logged as a block; the watchdog looks every half of them. Default: the limit of
    what people feel as instant (Nielsen, Usability Engineering, 1993, 5.5), and far above a well-behaved callback."""
    report_interval: Duration = 10.0
    """Seconds for each block that is logged with its stack, after a first few; the others are counted."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")


class Peak:
    """A number that rises at once and fades with time: the worst of late. ``decay`` is in seconds."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._value = 0.0
        self._at = 0.0

    def reach(self, value: float, now: float) -> None:
        """Rise to ``value``, unless there is more left of what was."""
        self._value = max(value, self.current(now))
        self._at = now

    def current(self, now: float) -> float:
        """What is left of it."""
        return self._value * exp(min(0.0, self._at - now) / self._decay)


class Block(Struct, frozen=True):
    """A stretch of time in which the loop did not turn."""

    seconds: float
    """Too long by at most half a threshold: the instant at which it began is not known better."""
    stack: str
    """What was going on, the innermost call last; empty where the watchdog could not look."""
    is_reported: bool = True
    """Whether it is to be logged. The others are in ``unreported`` of the next one that is."""
    unreported: int = 0


class BlockDetector:
    """What the watchdog of one event loop knows; its thread alone uses it.

    ``now`` is monotonic; ``cpu`` is the processor time that the loop's thread has used so far; ``asleep`` is how long
    the machine was suspended since its boot. All in seconds.
    """

    def __init__(self, policy: LoopPolicy, now: float, cpu: float, asleep: float) -> None:
        self.interval = policy.block_threshold / 2
        """Seconds between two looks; with these, no block passes between them."""
        self._policy = policy
        self._turned = now
        self._cpu = cpu
        self._asleep = asleep
        self._looks = 0
        self._stack = ""
        self._reports = float(_BURST)
        self._unreported = 0

    def turned(self, now: float, cpu: float, asleep: float) -> Block | None:
        """Take note that the loop turned at ``now``; returns the block that this ended, if it was one."""
        elapsed, self._turned = now - self._turned, now
        worked, self._cpu = cpu - self._cpu, cpu
        slept, self._asleep = asleep - self._asleep, asleep
        stack, self._stack = self._stack, ""
        self._looks = 0
        self._reports = min(_BURST, self._reports + elapsed / self._policy.report_interval)
        if elapsed < self._policy.block_threshold or slept > _SUSPENDED or not (stack or worked > elapsed / 2):
            return None
        return self._block(elapsed, stack)

    def is_due(self, now: float) -> bool:
        """Whether the stack of a loop at work is wanted: from half a threshold on, each time after twice as long."""
        if now - self._turned < self.interval * (1 << self._looks):
            return False
        self._looks += 1
        return True

    def saw(self, stack: str) -> None:
        """Take note of what the loop was doing. The last stack counts: it stands for half of the time or more."""
        self._stack = stack

    def _block(self, seconds: float, stack: str) -> Block:
        if self._reports < 1:
            self._unreported += 1
            return Block(seconds, stack, is_reported=False)
        self._reports -= 1
        unreported, self._unreported = self._unreported, 0
        return Block(seconds, stack, unreported=unreported)
