"""A client of the calculator (:mod:`netapp.protocols.calculator`).

Requests are sent as they are made and answered in their order, so the first answer belongs to the first request that
has none yet. That holds for requests whose caller has lost interest, too: a cancelled request stays in the queue, and
its answer is swallowed in its turn.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netapp.errors import DeadlineExceeded, End, LimitExceeded, NetappError, ProtocolViolation
from netapp.protocols.calculator_pb2 import AddRequest, ClientMessage, EchoMessage, ErrorResponse, ServerMessage
from netapp.protocols.flow import default_clock
from netapp.protocols.framing import FRAMERS, HEADERS, Framing

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITCPTransport

Kind = Literal["add_response", "echo_message"]

MAX_FRAME: Final = 64 * 1024
"""Bytes; what the calculator takes by default."""
MAX_OUTSTANDING: Final = 1024
"""Requests. Being further ahead of the server makes nothing faster, and fills memory on both sides."""


class CalculatorError(NetappError):
    """The server refused a request. ``code`` is an ``ErrorResponse.Code``, ``text`` is the server's own."""

    end: ClassVar[End] = End.LOCAL_DONE

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{_code_name(code)}: {text}")
        self.code = code
        self.text = text


def _code_name(code: int) -> str:
    """Name a code; a newer server may send one that has no name here."""
    return next((name for name, value in ErrorResponse.Code.items() if value == code), f"code {code}")


class _Request:
    """A request without an answer yet; ``done`` is None once nobody waits for it any more."""

    __slots__ = ("done", "kind")

    def __init__(self, kind: Kind, done: Deferred[Any]) -> None:
        self.kind: Kind = kind
        self.done: Deferred[Any] | None = done

    def succeed(self, value: int | str) -> None:
        """Deliver the answer, if somebody waits."""
        done, self.done = self.done, None
        if done is not None:
            done.callback(value)

    def fail(self, reason: BaseException | Failure) -> None:
        """Deliver a failure, if somebody waits."""
        done, self.done = self.done, None
        if done is not None:
            done.errback(reason)


class CalculatorClient(Protocol):
    """One connection to a calculator, on which any number of requests may be under way.

    ``clock`` measures timeouts, and is the global reactor if it is left out. At most ``max_outstanding`` requests have
    no answer yet, cancelled ones counted; ``framing`` and ``max_frame`` (bytes) are as the server has them.

    A request fails through its Deferred, never by raising: with ValueError or TypeError for an argument that cannot be
    sent, LimitExceeded for one request too many or too large, CalculatorError for what the server refused,
    DeadlineExceeded after ``timeout`` seconds, ProtocolViolation for a server that is out of step, and the
    connection's own reason if it ended first.
    """

    transport: ITCPTransport

    def __init__(
        self,
        clock: IReactorTime | None = None,
        framing: Framing = "varint",
        max_frame: int = MAX_FRAME,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> None:
        self._clock = clock
        self._framer = FRAMERS[framing](max_frame)
        self._headers = HEADERS[framing]
        self._max_frame = max_frame
        self._max_outstanding = max_outstanding
        self._outstanding: deque[_Request] = deque()
        self._shut: Failure | None = Failure(ConnectionLost("not connected yet"))
        self._closing: list[Deferred[None]] = []
        self._close_when_answered = False
        self._lost = True

    @classmethod
    def connect(
        cls,
        reactor: IReactorTime,
        endpoint: str | IStreamClientEndpoint,
        framing: Framing = "varint",
        max_frame: int = MAX_FRAME,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> Deferred[CalculatorClient]:
        """Connect to ``endpoint``, a client endpoint or the description of one such as ``tcp:127.0.0.1:7777``.

        The Deferred fails as the endpoint's does; cancelling it gives the attempt up. ValueError is raised for a
        description that cannot be understood.
        """
        if isinstance(endpoint, str):
            endpoint = clientFromString(reactor, endpoint)
        connected: Deferred[CalculatorClient] = connectProtocol(
            endpoint, cls(reactor, framing, max_frame, max_outstanding)
        )
        return connected

    @property
    def outstanding(self) -> int:
        """How many requests have no answer yet, those included that nobody waits for any more."""
        return len(self._outstanding)

    def add(self, a: int, b: int, timeout: float | None = None) -> Deferred[int]:
        """Ask for ``a + b``; all three are int32. ``timeout`` is in seconds, None waits for as long as it takes."""
        return self._ask("add_response", lambda: ClientMessage(add_request=AddRequest(a=a, b=b)), timeout)

    def echo(self, text: str, timeout: float | None = None) -> Deferred[str]:
        """Ask for ``text`` to come back. ``timeout`` as in :meth:`add`."""
        return self._ask("echo_message", lambda: ClientMessage(echo_message=EchoMessage(content=text)), timeout)

    def close(self) -> Deferred[None]:
        """Take no more requests, wait for the answers that somebody waits for, and close.

        It fires when the connection is gone, however it went. Cancelling it cuts the connection at once.
        """
        if self._lost:
            return succeed(None)
        self._shut = self._shut or Failure(ConnectionDone("the client was closed"))
        self._close_when_answered = True
        closed: Deferred[None] = Deferred(self._cut)
        self._closing.append(closed)
        self._close_if_answered()
        return closed

    def connectionMade(self) -> None:
        """Requests can be made."""
        self._shut = None
        self._lost = False

    def dataReceived(self, data: bytes) -> None:
        """Hand the answers to those who wait for them."""
        for frame in self._framer.feed(data):
            self._answered(frame)
        if self._framer.failure is not None:
            self._give_up(self._framer.failure)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """No answer will come any more: say so to all who wait for one."""
        self._lost = True
        self._abandon(reason)
        closing, self._closing = self._closing, []
        for closed in closing:
            closed.callback(None)

    def _ask(self, kind: Kind, build: Callable[[], ClientMessage], timeout: float | None) -> Deferred[Any]:
        if self._shut is not None:
            return fail(self._shut)
        if len(self._outstanding) >= self._max_outstanding:
            return fail(LimitExceeded("max_outstanding", f"{self._max_outstanding} requests are without an answer"))
        try:
            payload = build().SerializeToString()
        except (TypeError, ValueError) as problem:
            return fail(problem)
        if len(payload) > self._max_frame:
            # The echo of it would be as long, and we would not take it either.
            return fail(LimitExceeded("max_frame", f"a message of {len(payload)} bytes; {self._max_frame} are allowed"))
        return self._send(kind, payload, timeout)

    def _send(self, kind: Kind, payload: bytes, timeout: float | None) -> Deferred[Any]:
        done: Deferred[Any] = Deferred(lambda _: self._forget(request))
        request = _Request(kind, done)
        self._outstanding.append(request)
        self.transport.write(self._headers[len(payload)] + payload)
        if timeout is not None:
            done.addTimeout(timeout, self._clock or default_clock(), _deadline_passed)
        return done

    def _forget(self, request: _Request) -> None:
        """Nobody waits for this answer any more, but it will come, and must not be taken for the next one."""
        request.done = None
        self._close_if_answered()

    def _answered(self, frame: bytes) -> None:
        try:
            answer = ServerMessage.FromString(frame)
        except DecodeError:
            self._give_up(ProtocolViolation("the server sent what is not a ServerMessage"))
            return
        kind = answer.WhichOneof("message")
        if not self._outstanding or kind not in {self._outstanding[0].kind, "error_response"}:
            self._give_up(ProtocolViolation(f"the server sent {kind or 'nothing'}, which was not asked for"))
            return
        request = self._outstanding.popleft()
        if kind == "add_response":
            request.succeed(answer.add_response.result)
        elif kind == "echo_message":
            request.succeed(answer.echo_message.content)
        else:
            request.fail(CalculatorError(answer.error_response.code, answer.error_response.text))
        self._close_if_answered()

    def _close_if_answered(self) -> None:
        if not self._close_when_answered or self._lost:
            return
        if all(request.done is None for request in self._outstanding):
            self.transport.loseConnection()

    def _cut(self, closed: Deferred[None]) -> None:
        self._closing.remove(closed)
        self.transport.abortConnection()

    def _give_up(self, why: NetappError) -> None:
        """Nothing that the server sends can be matched any more."""
        self._abandon(Failure(why))
        self.transport.abortConnection()

    def _abandon(self, reason: Failure) -> None:
        self._shut = self._shut or reason
        abandoned, self._outstanding = self._outstanding, deque()
        for request in abandoned:
            request.fail(reason)


def _deadline_passed(result: Any, timeout: float) -> Any:
    """Say in netapp's words what Twisted's ``addTimeout`` reports as a cancellation."""
    del result
    raise DeadlineExceeded("request", f"no answer within {timeout:g} s")
