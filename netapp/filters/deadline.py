"""An answer in time, or 504: the deadline of responders that have to be waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from netapp.errors import DeadlineExceeded, NetappError
from netapp.filters.answers import waited
from netapp.http.message import Response
from netapp.timers import NEVER, Timers

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from netapp.http.message import Request
    from netapp.http.responder import Answer, Filter, Responder

    _UnderWay = tuple[Request, Deferred[Response], Deferred[Response]]

_log = Logger()


def deadline(seconds: float, clock: IReactorTime | None = None, *, timers: Timers | None = None) -> Filter:
    """Cancel what a responder waits for after ``seconds``, and fail with DeadlineExceeded, which is answered with 504.

    The time runs from the responder's call to its Response. It covers what the responder reads of the request's
    content, and not the sending of a streamed response, which the write deadline of its connection bounds. A plain
    Response costs no timer, nor does a Deferred or a coroutine that has its result already.

    A responder that swallows the cancellation is not waited for: its client has the 504, and what it returns later is
    dropped. Conversely, when whoever waits for the answer cancels it, because the client has gone, so is the
    responder.

    ``timers`` is an application's own wheel; without it one is made on ``clock``, which defaults to the global
    reactor. Its precision, some tenths of a second, is this filter's.
    """
    if seconds <= 0:
        raise ValueError(f"a deadline must be positive, not {seconds} s")
    wheel = _make_timers(clock) if timers is None else timers

    def around(responder: Responder) -> Responder:
        def answer(request: Request) -> Answer:
            answer = responder(request)
            if isinstance(answer, Response):
                return answer
            given = waited(answer)
            if given.called and not given.paused:
                return given
            return _Wait(wheel, seconds).start(request, given)

        return answer

    return around


def _make_timers(clock: IReactorTime | None) -> Timers:
    if clock is None:
        from twisted.internet import reactor  # noqa: PLC0415 - a library must not choose the reactor at import

        clock = reactor
    return Timers(clock)


class _Wait:
    """One answer that is waited for, in the wheel for as long as it is."""

    __slots__ = ("_seconds", "_timers", "_under_way", "deadline", "slot")

    def __init__(self, timers: Timers, seconds: float) -> None:
        self._timers = timers
        self._seconds = seconds
        # let go of at the end: the outcome refers back to here, and a cycle would keep the request until a collection
        self._under_way: _UnderWay | None = None
        self.deadline = NEVER
        self.slot = 0

    def start(self, request: Request, given: Deferred[Response]) -> Deferred[Response]:
        """Return what fires once: with the answer that is ``given``, or when its time is over."""
        outcome: Deferred[Response] = Deferred(self._abandoned)
        self._under_way = (request, given, outcome)
        self._timers.arm(self, self._timers.now() + self._seconds)
        given.addCallbacks(self._answered, self._failed)
        return outcome

    def expired(self, now: float) -> None:  # noqa: ARG002 - the wheel's signature
        """The time is over: stop the responder, and answer whatever it makes of that."""
        # it is in the wheel only while it is under way
        request, given, outcome = cast("_UnderWay", self._end())
        _log.warn("{request} was not answered within {seconds:g} s", request=request, seconds=self._seconds)
        try:
            given.cancel()
        finally:
            if not outcome.called:  # or the cancellation ended the connection, which gave up waiting
                outcome.errback(DeadlineExceeded("request_deadline", f"no answer within {self._seconds:g} s"))

    def _abandoned(self, _: Deferred[Response]) -> None:
        """Whoever waited has given up, and is told CancelledError by Twisted: stop the responder."""
        under_way = self._end()
        if under_way is not None:
            under_way[1].cancel()

    def _answered(self, answer: Response) -> None:
        under_way = self._end()
        if under_way is not None:
            under_way[2].callback(answer)

    def _failed(self, failure: Failure) -> None:
        under_way = self._end()
        if under_way is not None:
            under_way[2].errback(failure)
        elif not failure.check(CancelledError, NetappError):
            _log.failure("a responder failed after it was cancelled", failure)

    def _end(self) -> _UnderWay | None:
        self._timers.disarm(self)
        under_way, self._under_way = self._under_way, None
        return under_way
