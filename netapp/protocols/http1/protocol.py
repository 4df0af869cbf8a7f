"""One HTTP/1 connection: its requests are answered one at a time, in order (RFC 9112 §9.3.2).

This is the answering half; the receiving one is its base class. Work starts when the bytes of one read have been fed to
the parser. A responder that returns a plain response is answered in the same turn with a single write, and costs
neither a Deferred nor a timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, Draining, NetappError, PeerAborted
from netapp.http.errors import HttpError, error_response
from netapp.http.message import Response, Upgrade
from netapp.protocols.handover import replace_protocol
from netapp.protocols.http1.exchange import DISCARD, Http1Request
from netapp.protocols.http1.receiver import Http1Receiver
from netapp.protocols.http1.sender import StreamSender, drop
from netapp.protocols.http1.writer import announced_length, connection_line, has_content, write_head
from netapp.timers import NEVER

if TYPE_CHECKING:
    from collections import deque

    from twisted.internet.interfaces import ITransport
    from twisted.python.failure import Failure

    from netapp.http.responder import Answer
    from netapp.peer import Peer
    from netapp.protocols.http1.body import StreamBody
    from netapp.protocols.http1.factory import Http1Factory

FIRST_REQUEST = 1.0
"""Seconds that a new connection has for its first request when the server stops: it was accepted, after all."""

_log = Logger()

_UPGRADE_REQUIRED = HttpError(426, headers=[("Upgrade", "websocket"), ("Connection", "Upgrade")])


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Http1Protocol(Http1Receiver):
    """A Twisted protocol that serves HTTP/1.0 and HTTP/1.1; made by :class:`Http1Factory`."""

    __slots__ = ("_eof", "_pending", "_sender", "_serving", "_winding_down", "_write_full")

    def __init__(self, factory: Http1Factory) -> None:
        super().__init__(factory)
        self._pending: Deferred[Response] | None = None
        self._sender: StreamSender | None = None
        self._serving = False
        self._eof = False
        self._winding_down = False
        self._write_full = False

    # -- what Twisted calls

    def set_peer(self, peer: Peer) -> None:
        """Take the listener's description of the client."""
        self.peer = peer

    def makeConnection(self, transport: ITransport) -> None:
        """Start serving on ``transport``."""
        self.transport = transport
        if self.peer is None:
            self.peer = self._factory.describe_peer(transport)
        if self.peer.tls is not None:
            self._scheme = "https"
        self.connectionMade()

    def connectionMade(self) -> None:
        """Ask for the transport's back-pressure and start the first request's clock."""
        self.transport.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature
        self._arm(self._factory.policy.header_timeout)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel what is under way: nobody is there to read it."""
        self._factory.timers.disarm(self)
        request, self._current = self._current, None
        reading, self._reading = self._reading, None
        unfinished = request is not None or self._queue or reading is not None or self._in_head
        gone = self.ending or PeerAborted("the client left before its request was answered")
        if unfinished and not self._closing and reason.check(ConnectionDone):
            self.ending = gone  # what else a connection is lost by, its transport knows better
        self._deaf = self._closing = True
        self._forget_queue()
        self._parser = None
        if reading is not None:
            cast("StreamBody", reading.stream).fail(gone)
        if request is not None:
            self._give_up(request, gone)

    def _give_up(self, request: Http1Request, gone: NetappError) -> None:
        """Stop whoever answers a request whose client has left."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.stop()
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.cancel()
            except Exception as error:  # noqa: BLE001 - somebody else's canceller; the request has to be booked
                self._factory.defect("the responder of {request} could not be cancelled: {error!r}", request, error)
        self._book(request, sender.status if sender is not None else 0, sender.sent if sender is not None else 0, gone)

    def readConnectionLost(self) -> None:
        """The client has sent all that it will: answer what came, then close."""
        self._eof = self._deaf = True
        if self._reading is not None:
            self._content_cut(self._reading)
        if self._current is None and not self._queue:
            if self._in_head and not self._closing:
                self.ending = PeerAborted("the client closed in the middle of a header section")
            self._end()

    def _content_cut(self, request: Http1Request) -> None:
        """Content will never be complete: its request is void, and the ones before it are not."""
        gone = self.ending = PeerAborted("the client closed in the middle of a request's content")
        if request is self._current:
            self._abort(gone)  # and whoever reads the content is told when the connection is lost
            return
        self._reading = None
        if self._queue:
            self._queue.pop()

    def writeConnectionLost(self) -> None:
        """All is sent and our side is closed: the client has ``linger`` seconds to close its own."""
        self._arm(self._factory.policy.linger)

    # -- what the transport's write buffer says (this is its push producer)

    def pauseProducing(self) -> None:
        """The client does not read: start no further response, and stop the one that streams."""
        self._write_full = True
        if self._sender is not None:
            self._sender.pause()

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._write_full = False
        if self._sender is not None:
            self._sender.resume()
        elif self._queue and self._current is None:
            self._serve()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # -- draining

    @property
    def state(self) -> str:
        """One word for a list of connections."""
        if self._closing:
            return "closing"
        if self._current is not None or self._queue:
            return "active"
        return "reading" if self._in_head or self._reading is not None else "idle"

    def wind_down(self) -> None:
        """Say ``Connection: close`` with the next response."""
        self._winding_down = True

    def drain(self) -> None:
        """Answer the requests that have arrived, then close."""
        self._winding_down = self._draining = True
        if self.state != "idle":
            return
        if self._served == 0:
            self._arm(FIRST_REQUEST)
        else:
            self.ending = Draining("closed while idle: the server is stopping")
            self._end()

    # -- answering

    def _serve(self) -> None:
        """Answer requests until one has to be waited for."""
        if self._serving:
            return
        self._serving = True
        queue: deque[Http1Request] = self._queue  # type: ignore[assignment]  # called with something in it
        while queue and self._current is None and not self._write_full:
            request = self._current = queue.popleft()
            self._served += 1
            if len(queue) == self._factory.policy.max_pipelined - 1:
                self._resume_reading()
            if self._reading is None:
                self.deadline = NEVER
            self._answer(request)
        self._serving = False

    def _answer(self, request: Http1Request) -> None:
        if request.refused is not None:
            self._respond(request, error_response(request.refused, request))
            return
        try:
            answer: Answer = self._factory.responder(request)
            if not isinstance(answer, Response):
                pending = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(cast("Any", answer))
        except Exception as error:  # noqa: BLE001 - a responder's defect is its request's alone
            answer = self._factory.failed(request, error)
        if isinstance(answer, Response):
            self._respond(request, answer)
            return
        self._pending = pending
        pending.addCallbacks(self._answered, self._failed, callbackArgs=(request,), errbackArgs=(request,))

    def _answered(self, answer: object, request: Http1Request) -> None:
        if self._current is not request:  # the client is gone
            if isinstance(answer, Response):
                drop(answer).addErrback(self._failed, request)
            return
        self._pending = None
        if not isinstance(answer, Response):
            problem = TypeError(f"a responder returned {type(answer).__name__} and not a Response")
            answer = self._factory.failed(request, problem)
        self._respond(request, answer)

    def _failed(self, failure: Failure, request: Http1Request) -> None:
        error = cast("BaseException", failure.value)
        if self._current is request:
            self._pending = None
            self._respond(request, self._factory.failed(request, error))
        else:
            self._note_late(request, error)

    def _note_late(self, request: Http1Request, error: BaseException | None) -> None:
        """The client is gone: only a defect is still worth a line."""
        if error is not None and not isinstance(error, (CancelledError, HttpError, PeerAborted)):
            self._factory.defect(
                "the responder of {request} failed after its client had gone: {error!r}", request, error
            )

    def _respond(self, request: Http1Request, response: Response) -> None:
        """Send a response, or begin to."""
        if isinstance(response, Upgrade):
            self._upgrade(request, response)
            return
        request.keep_alive = self._keeps(request, response)
        body = response.body
        if not isinstance(body, bytes):
            self._sender = StreamSender(request, response, self.transport, self._factory.clock, self._streamed)
            self._sender.start(paused=self._write_full)
            return
        status = response.status
        try:
            raw = response.headers.raw
            framing = b""
            if has_content(status):
                size = len(body)
                if not size and request.method == "HEAD":
                    size = announced_length(raw) or 0  # RFC 9110 §9.3.2: what GET would have
                framing = b"content-length: %d\r\n" % size
            head = write_head(status, raw, framing, connection_line(request))
        except Exception as error:  # noqa: BLE001 - nothing is sent yet
            self._unsendable(request, error)
            return
        if body and framing and request.method != "HEAD":
            self.transport.write(head + body)
            self._finish(request, status, len(body))
        else:
            self.transport.write(head)
            self._finish(request, status, 0)

    def _unsendable(self, request: Http1Request, error: BaseException) -> None:
        """A response cannot be written down: say so, with nothing in it that may have been the cause."""
        request.error_fields = ()
        self._respond(request, self._factory.failed(request, error))

    def _keeps(self, request: Http1Request, response: Response) -> bool:
        """Say whether the connection carries another response after this one."""
        if not request.keep_alive:
            return False
        if request is self._reading and (request.expects or request.remaining > DISCARD):
            # RFC 9110 §10.1.1: who was not told to continue may send the content or not: nobody can know. A stream
            # may still read it; it is decided when it has ended.
            return not isinstance(response.body, bytes)
        limit = self._factory.policy.max_requests
        if not (self._winding_down or self._deaf or (limit and self._served >= limit)):
            return True
        if not self._queue:
            return False
        if self._reading is None:
            self._deaf = True  # what waits is answered, but who goes on pipelining cannot go on for ever
        return True

    def _streamed(self, request: Http1Request, status: int, sent: int, error: BaseException | None) -> None:
        """A streamed response has come to its end, or cannot be completed."""
        if self._current is not request:
            self._note_late(request, error)
            return
        sender, self._sender = self._sender, None
        if error is None:
            self._finish(request, status, sent)
        elif sender is not None and not sender.begun:
            self._respond(request, self._factory.failed(request, error))
        else:
            # RFC 9112 §8: a response that is incomplete must not look complete
            self._factory.cut_short(request, error)
            self._current = None
            self._book(request, status, sent, error)
            self._abort(self.ending or NetappError(f"the response was cut short: {error!r}"))

    def _finish(self, request: Http1Request, status: int, sent: int) -> None:
        """A response is out: go on with the next request, or close."""
        self._current = None
        self._book(request, status, sent, None)
        if request.stream is not None and self._leave_content(request, request.stream):
            return
        if not request.keep_alive:
            self._end()
        elif self._queue:
            self._serve()
        elif self._rest is not None:
            self._parse_rest()
        else:
            self._await_request()

    def _leave_content(self, request: Http1Request, stream: StreamBody) -> bool:
        """The response to a request with content is out; return False when the content is in, and True otherwise.

        Then either what is missing is read and dropped, or the connection is closed.
        """
        if request is not self._reading:
            if stream.pace.paused:  # it went over what is held for a responder with its very last bytes
                self._read_on(stream)
            return False
        if request.keep_alive and not request.expects and request.remaining <= DISCARD:
            stream.discard()
            self._read_on(stream)
        else:
            self._reading = None
            stream.discard()
            self._end()
        return True

    def _book(self, request: Http1Request, status: int, sent: int, error: BaseException | None) -> None:
        """Tell who counts requests; a fault in the counting is not the connection's."""
        try:
            request.finish(status, sent, error)
        except Exception as problem:  # noqa: BLE001 - somebody else's code
            self._factory.defect("a finisher of {request} failed: {error!r}", request, problem)

    # -- upgrading

    def _upgrade(self, request: Http1Request, response: Upgrade) -> None:
        """Give the connection to another protocol, if that was offered."""
        if not request.upgradable or self._rest is None:
            self._respond(request, error_response(_UPGRADE_REQUIRED, request))
            return
        try:
            successor = response.build(request)
        except Exception as error:  # noqa: BLE001 - as a responder's own
            self._respond(request, self._factory.failed(request, error))
            return
        self._current = None
        self._book(request, response.status, 0, None)
        try:
            self._hand_over(request, successor)
        except Exception as error:  # noqa: BLE001 - whose connection it is by now nobody can say: it ends
            self._factory.defect("the upgrade of {request} failed: {error!r}", request, error)
            self._abort(NetappError(f"the upgrade failed: {error!r}"))

    def _hand_over(self, request: Http1Request, successor: Any) -> None:
        """Let another protocol read: the request's bytes first, then what came behind them."""
        rest, self._rest = cast("bytes", self._rest), None
        self._leave()
        self._parser = None
        self._factory.timers.disarm(self)
        replace_protocol(self.transport, self, successor)
        self.transport.resumeProducing()  # before the successor has any say in it
        successor.makeConnection(self.transport)
        successor.dataReceived(request.as_bytes() + rest)

    # -- ending

    def expired(self, now: float) -> None:
        """A deadline has passed; which one follows from where the connection is."""
        if self._closing:
            self._linger_expired()
        elif self._reading is not None:
            self._look_at_content(now)
        elif self._in_head:
            self._head_expired()
        elif self._current is None and not self._queue:
            self.ending = self._idle_end()
            self._end()

    def _idle_end(self) -> NetappError:
        if self._draining:
            return Draining("closed before its first request: the server is stopping")
        return DeadlineExceeded("keepalive_timeout" if self._served else "header_timeout")

    def _linger_expired(self) -> None:
        """The client did not close its side. What is still unsent is the transport's write deadline's affair."""
        if getattr(self.transport, "unsent", 0):
            self._arm(self._factory.policy.linger)
        else:
            self.transport.abortConnection()

    def _abort(self, reason: NetappError) -> None:
        self.ending = reason
        self._leave()
        self.transport.abortConnection()

    def _end(self) -> None:
        """Close behind what was written: half-close and linger, so that a reset destroys nothing (RFC 9112 §9.6)."""
        transport = self.transport
        half_closes = not ISSLTransport.providedBy(transport) and hasattr(transport, "loseWriteConnection")
        if not self._closing:
            self._leave()
            if not self._eof:
                transport.resumeProducing()  # its end, or with TLS its goodbye, has to be read
                if half_closes:
                    self.deadline = NEVER
                    transport.loseWriteConnection()
                    return
        # Twisted's own transports do not say how much is unsent, so that their clients get the time of an idle one
        policy = self._factory.policy
        self._arm(policy.linger if hasattr(transport, "unsent") else max(policy.linger, policy.keepalive_timeout))
        transport.loseConnection()  # last: a half-closed transport calls connectionLost from here

    def _leave(self) -> None:
        """Begin no further response."""
        if not self._closing:
            self._deaf = self._closing = True
            self._forget_queue()
            self.transport.unregisterProducer()

    def _forget_queue(self) -> None:
        if self._queue is not None:
            self._queue.clear()
