"""One WebSocket connection: its life from the handshake to the last byte, its deadlines and its back-pressure.

autobahn reads and writes the frames (:mod:`netapp.protocols.websocket.framer`); the service's methods are called by
:class:`~netapp.protocols.websocket.handlers.Handlers`. Here is what lies between them and the transport.

What the client sends is worked through only while there is room: when the transport's write buffer is full, or as many
messages as the policy allows wait for a busy service, no further frame is parsed and nothing more is read.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, Draining, LimitExceeded, NetappError, PeerAborted, ProtocolViolation
from netapp.protocols.flow import Flow
from netapp.protocols.websocket.handlers import Handlers
from netapp.protocols.websocket.socket import SocketClosed, WebSocket
from netapp.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import ITransport
    from twisted.python.failure import Failure

    from netapp.http.message import Request
    from netapp.protocols.flow import Wire
    from netapp.protocols.websocket.handshake import Handshake
    from netapp.protocols.websocket.responder import Endpoint
    from netapp.timers import Timers

GOING_AWAY = 1001
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011

_log = Logger("netapp.protocols.websocket")


class _Flow(Flow):
    """Tells, besides, when the write buffer has emptied."""

    __slots__ = ("_emptied",)

    def __init__(self, wire: Wire, timers: Timers, emptied: Callable[[], None]) -> None:
        self._emptied = emptied
        super().__init__(wire, timers)

    def resumeProducing(self) -> None:
        """Go on: the write buffer has emptied."""
        super().resumeProducing()
        self._emptied()


@implementer(IProtocol, IHalfCloseableProtocol)
class WebSocketConnection:
    """The Twisted protocol that a connection is handed to; its first bytes are those of the request.

    ``state`` is one of opening, open, closing and closed.
    """

    __slots__ = (
        "_endpoint",
        "_flow",
        "_framer",
        "_handlers",
        "_heard",
        "_pinged",
        "_socket",
        "deadline",
        "ending",
        "handshake",
        "policy",
        "slot",
        "state",
        "transport",
    )

    def __init__(self, endpoint: Endpoint, handshake: Handshake, request: Request) -> None:
        self._endpoint = endpoint
        self._socket = WebSocket(self, request, handshake.subprotocol)
        self._handlers = Handlers(self._handler_failed, self._relieved)
        self._heard = 0.0
        self._pinged = 0.0
        self._flow: Any = None
        self._framer: Any = None
        self.deadline = NEVER
        self.ending: NetappError | None = None
        self.handshake = handshake
        self.policy = endpoint.policy
        self.slot = 0
        self.state = "opening"
        self.transport: Any = None

    # -- what Twisted calls

    def makeConnection(self, transport: ITransport) -> None:
        """Take the connection over; the request's bytes follow."""
        self.transport = transport
        with suppress(AttributeError, OSError):  # not every transport has it, and a UNIX socket refuses
            self.transport.setTcpNoDelay(True)
        self._flow = _Flow(self.transport, self._endpoint.timers, self._emptied)
        self._framer = self._endpoint.frame(self)
        self._arm(self.policy.handshake_timeout)

    def connectionMade(self) -> None:
        """Nothing: makeConnection, which calls it in other protocols, has done it."""

    def dataReceived(self, data: bytes) -> None:
        """Take what the client has sent."""
        self._heard = self._endpoint.timers.now()
        if not self._flow.closing:
            self._framer.feed(data)

    def readConnectionLost(self) -> None:
        """The client has closed its side: nothing can be agreed upon any more."""
        self._flow.close()

    def writeConnectionLost(self) -> None:
        """Our side is closed and everything is out."""
        self._flow.flushed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give everything back, and tell the service."""
        was_open = self.state != "opening"
        self.state = "closed"
        self._flow.lost()
        self._endpoint.timers.disarm(self)
        code, text = self._framer.lost(reason)
        if self.ending is None and not self._framer.wasClean and isinstance(reason.value, ConnectionDone):
            self.ending = PeerAborted("the client closed without a Close frame")
        self._socket.lost()
        if was_open:
            self._endpoint.closed(code)
            self._handlers.call(self._endpoint.service.on_close, self._socket, code, text)
        if self._handlers.busy:
            self._arm(self.policy.close_timeout)

    # -- what the listener calls

    def drain(self) -> None:
        """Send the client elsewhere (RFC 6455 §7.4.1: 1001, going away)."""
        if self.state == "opening":
            self._abort(Draining())
        else:
            self.close(GOING_AWAY, "the server is stopping", Draining())

    # -- what the socket calls, for the service

    @property
    def full(self) -> bool:
        """Whether the transport's write buffer is over its mark."""
        return bool(self._flow.full)

    def send(self, payload: bytes, *, binary: bool) -> None:
        """Send a message."""
        self._endpoint.sent.value += 1
        self._framer.send(payload, binary=binary)

    def close(self, code: int, reason: str, why: NetappError | None = None) -> None:
        """Begin the closing handshake: the client has ``close_timeout`` to take part in it."""
        if self.state != "open":
            return
        self.state = "closing"
        self.ending = self.ending or why
        self._handlers.forget()
        self._framer.start_closing(code, reason)
        self._arm(self.policy.close_timeout)
        self._relieved()

    # -- what the framer calls

    @property
    def ready(self) -> bool:
        """Whether a message can be delivered and its answer be sent."""
        return not self._flow.full and not self._crowded

    def opened(self) -> None:
        """The handshake is complete."""
        self.state = "open"
        self._endpoint.connections.value += 1
        self._arm(self.policy.ping_interval or NEVER)
        self._handlers.call(self._endpoint.service.on_open, self._socket)

    def received(self, message: str | bytes, size: int) -> None:
        """Deliver a message of so many bytes. One that comes after we began to close is dropped (RFC 6455 §1.4)."""
        if self.state != "open":
            return
        self._endpoint.received.value += 1
        self._handlers.call(self._endpoint.service.on_message, self._socket, message, size=size)
        if self._crowded:
            self._flow.hold()

    def violated(self, code: int, reason: str, *, frame: bool) -> None:
        """Note why the connection is about to be failed."""
        if self.ending is None:
            if code == MESSAGE_TOO_BIG:
                self.ending = LimitExceeded("websocket_max_frame" if frame else "websocket_max_message", reason)
            else:
                self.ending = ProtocolViolation(reason)

    def finish(self, *, clean: bool) -> None:
        """Close the transport behind what was written: both sides have said Close, or the client has failed."""
        self.state = "closing"
        self._arm(self.policy.close_timeout)
        if clean:
            self._flow.close()
        else:
            self._flow.finish()

    # -- handlers and room

    @property
    def _crowded(self) -> bool:
        policy = self.policy
        return len(self._handlers) >= policy.queue_messages or self._handlers.size >= policy.queue_bytes

    def _relieved(self) -> None:
        """A handler that had to be waited for is done: go on with what the client has sent."""
        if self.state != "closed" and not self._crowded:
            self._flow.release()
            self._framer.consumeData()

    def _emptied(self) -> None:
        """The write buffer has emptied: go on with what the service and the client have sent."""
        self._socket.emptied()
        self._framer.consumeData()

    def _handler_failed(self, failure: Failure) -> None:
        if self.state != "open" and failure.check(SocketClosed, CancelledError):
            return  # it was overtaken by the end
        _log.failure("{peer}: {service!r} failed", failure, peer=self._socket.peer, service=self._endpoint.service)
        self.close(INTERNAL_ERROR, "internal error", NetappError("the service failed"))

    # -- deadlines

    def _arm(self, seconds: float) -> None:
        timers = self._endpoint.timers
        timers.arm(self, timers.now() + seconds)

    def _abort(self, why: NetappError) -> None:
        self.ending = self.ending or why
        self._flow.lost()
        self.transport.abortConnection()

    def expired(self, now: float) -> None:
        """A deadline has passed; which one follows from the state."""
        if self.state == "open":
            self._look_for_life(now)
        elif self.state == "opening":
            self._abort(DeadlineExceeded("websocket_handshake"))
        elif self.state == "closing":
            self._abort(DeadlineExceeded("websocket_close"))
        else:
            self._handlers.cancel()
            if self._handlers.busy:
                self._arm(self.policy.close_timeout)

    def _look_for_life(self, now: float) -> None:
        """Ping a silent client, and give up one that has not even answered that."""
        policy = self.policy
        if not self.ready:
            self._heard = now  # we do not listen; the transport's write deadline watches a client that does not read
        if self._pinged > self._heard:
            self._abort(DeadlineExceeded("websocket_ping"))
        elif now - self._heard < policy.ping_interval:
            self._endpoint.timers.arm(self, self._heard + policy.ping_interval)
        else:
            self._pinged = now
            self._framer.sendPing()
            self._arm(policy.ping_timeout)
