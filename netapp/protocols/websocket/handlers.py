"""Running one socket's handlers one at a time, in order, whatever they return."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Handlers:
    """A queue of calls; ``failed`` is told of an exception, ``relieved`` when a call that had to be waited for is over.

    ``size`` is the sum of the sizes (bytes) of what the waiting calls carry, and ``len()`` their number.
    """

    __slots__ = ("_failed", "_relieved", "_running", "_turning", "_waiting", "size")

    def __init__(self, failed: Callable[[Failure], None], relieved: Callable[[], None]) -> None:
        self._failed = failed
        self._relieved = relieved
        self._running: Deferred[object] | None = None
        self._turning = False
        self._waiting: deque[tuple[int, Callable[..., Awaitable[object] | None], tuple[Any, ...]]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a handler is under way."""
        return self._running is not None

    def call(self, handler: Callable[..., Awaitable[object] | None], *args: object, size: int = 0) -> None:
        """Call ``handler`` when it is its turn: now, unless another one is under way."""
        self._waiting.append((size, handler, args))
        self.size += size
        self._turn()

    def forget(self) -> None:
        """Drop the calls that wait."""
        self._waiting.clear()
        self.size = 0

    def cancel(self) -> None:
        """Cancel the handler under way and drop the calls that wait, but for the last one."""
        last = self._waiting.pop() if self._waiting else None
        self.forget()
        if last is not None:
            self._waiting.append(last)
            self.size = last[0]
        if self._running is not None:
            self._running.cancel()

    def _turn(self) -> None:
        if self._turning:
            return
        self._turning = True
        while self._waiting and self._running is None:
            size, handler, args = self._waiting.popleft()
            self.size -= size
            self._start(handler, args)
        self._turning = False

    def _start(self, handler: Callable[..., Awaitable[object] | None], args: tuple[Any, ...]) -> None:
        try:
            result = handler(*args)
            if result is None:
                return
            running = result if isinstance(result, Deferred) else Deferred.fromCoroutine(cast("Any", result))
        except Exception:  # noqa: BLE001 - somebody else's code: it costs its connection and nothing more
            self._failed(Failure())
            return
        self._running = running
        running.addCallbacks(self._done, self._broken)

    def _done(self, _: object) -> None:
        self._running = None
        if not self._turning:
            self._turn()
            self._relieved()

    def _broken(self, failure: Failure) -> None:
        self._failed(failure)
        self._done(None)
