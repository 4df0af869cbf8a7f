"""One HTTP/1 connection: httptools (llhttp) reads, the request plane answers, this class keeps the order.

Requests are parsed as they arrive and answered one at a time, in order (RFC 9112 §9.3.2). The parser's callbacks only
note what came; work starts when the bytes of one read have been fed. A responder that returns a plain response is
answered in the same turn with a single write, and costs neither a Deferred nor a timer.

Where a connection is, is told by a few facts rather than by one state, because they change independently:

- ``_in_head``: a header section has begun and is not complete;
- ``_reading``: the request whose content still arrives;
- ``_queue``: complete header sections that wait for their turn;
- ``_current``: the request that is being answered;
- ``_deaf``: nothing more is parsed, but what was accepted is still answered;
- ``_closing``: all is said, and the close is under way.
"""

from __future__ import annotations

from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, Draining, LimitExceeded, PeerAborted, ProtocolViolation
from netapp.http.errors import HttpError, error_response
from netapp.http.headers import Headers, RawHeaders
from netapp.http.message import Response, Upgrade
from netapp.protocols.handover import replace_protocol
from netapp.protocols.http1.body import StreamBody
from netapp.protocols.http1.exchange import DISCARD, Http1Request
from netapp.protocols.http1.head import Head, check_limits, read_head
from netapp.protocols.http1.pace import LOOK
from netapp.protocols.http1.sender import StreamSender
from netapp.protocols.http1.writer import CONTINUE, connection_line, has_content, write_head
from netapp.timers import NEVER

if TYPE_CHECKING:
    from twisted.internet.interfaces import ITransport
    from twisted.python.failure import Failure

    from netapp.errors import NetappError
    from netapp.http.responder import Answer
    from netapp.peer import Peer
    from netapp.protocols.http1.factory import Http1Factory

_log = Logger()

_UPGRADE_REQUIRED = HttpError(426, headers=[("Upgrade", "websocket"), ("Connection", "Upgrade")])


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Http1Protocol:
    """A Twisted protocol that serves HTTP/1.0 and HTTP/1.1; made by :class:`Http1Factory`."""

    __slots__ = (
        "_closing",
        "_current",
        "_deaf",
        "_eof",
        "_factory",
        "_head_size",
        "_headers",
        "_in_head",
        "_parser",
        "_pending",
        "_queue",
        "_reading",
        "_rest",
        "_scheme",
        "_sender",
        "_served",
        "_serving",
        "_target",
        "_winding_down",
        "_write_full",
        "deadline",
        "ending",
        "peer",
        "slot",
        "transport",
    )

    def __init__(self, factory: Http1Factory) -> None:
        self._factory = factory
        self._parser: Any = HttpRequestParser(self)
        self._headers: RawHeaders = []
        self._target = b""
        self._in_head = False
        self._head_size = 0
        self._reading: Http1Request | None = None
        self._queue: deque[Http1Request] | None = None
        self._current: Http1Request | None = None
        self._pending: Deferred[Response] | None = None
        self._sender: StreamSender | None = None
        self._rest: bytes | None = None
        self._scheme = "http"
        self._served = 0
        self._serving = False
        self._deaf = False
        self._closing = False
        self._eof = False
        self._winding_down = False
        self._write_full = False
        self.ending: NetappError | None = None
        self.peer: Peer | None = None
        self.transport: Any = None
        self.deadline = NEVER
        self.slot = 0

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

    def dataReceived(self, data: bytes) -> None:
        """Feed what arrived to the parser, then answer what is complete."""
        if self._deaf:
            return
        if self._rest is not None:
            self._rest += data
            return
        began = not self._in_head
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._rest = data[upgrade.args[0] :]
            self.transport.pauseProducing()
        except HttpParserError as error:
            self._parse_failed(error)
        if self._in_head:
            self._limit_head(0 if began else len(data))
        if self._queue and self._current is None:
            self._serve()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        """Cancel what is under way: nobody is there to read it."""
        self._factory.timers.disarm(self)
        unfinished = [request for request in (self._current, *(self._queue or ())) if request is not None]
        if self.ending is None and (unfinished or self._in_head or self._reading is not None):
            self.ending = PeerAborted("the client closed before its request was answered")
        gone = self.ending or PeerAborted("the connection is gone")
        self._deaf = self._closing = True
        self._current = self._queue = None
        self._parser = None
        for request in unfinished:
            if request.stream is not None:
                request.stream.fail(gone)
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.stop()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        for request in unfinished:
            request.finish(0, sender.sent if sender is not None else 0, gone)

    def readConnectionLost(self) -> None:
        """The client has sent all that it will: answer what came, then close."""
        self._eof = self._deaf = True
        if self._reading is not None:
            self._abort(PeerAborted("the client closed in the middle of a request's content"))
        elif self._current is None and not self._queue:
            if self._in_head:
                self.ending = PeerAborted("the client closed in the middle of a header section")
            self._end()

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
        self._winding_down = True
        if self.state == "idle":
            self.ending = Draining("closed while idle: the server is stopping")
            self._end()

    # -- what httptools calls

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._in_head = True
        self._head_size = 0
        self._headers = []
        self._target = b""

    def on_url(self, part: bytes) -> None:
        """Take a part of the request target."""
        self._target = self._target + part if self._target else part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field. A trailer field is dropped, as RFC 9110 §6.5.1 allows."""
        if self._in_head:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Check the header section and queue the request."""
        self._in_head = False
        if self._deaf:
            return
        factory = self._factory
        parser = self._parser
        raw = self._headers
        method = parser.get_method().decode("ascii")
        version = parser.get_http_version()
        try:
            check_limits(self._target, raw, factory.policy)
            head = read_head(method, self._target, version, raw, factory.policy)
        except HttpError as error:
            self._refuse(error)
            return
        request = Http1Request(
            method,
            self._target,
            Headers.from_raw(raw),
            cast("Peer", self.peer),
            host=head.host,
            scheme=self._scheme,
            protocol="HTTP/1.1" if version == "1.1" else "HTTP/1.0",
            raw_path=head.path,
            query_string=head.query,
            started=factory.timers.now(),
        )
        request.keep_alive = head.keep_alive
        request.upgradable = parser.should_upgrade()
        if head.length or head.chunked:
            self._expect_content(request, head)
        self._enqueue(request)

    def on_body(self, data: bytes) -> None:
        """Take a piece of content: count it, hold it for the responder, and mind both limits."""
        request = self._reading
        if request is None:
            return
        stream = cast("StreamBody", request.stream)
        policy = self._factory.policy
        stream.pace.received += len(data)
        if stream.pace.received > policy.max_body:
            error = HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the content is over {policy.max_body} bytes")
            self._break_content(error, LimitExceeded("max_body"))
            return
        stream.feed(data)
        if stream.size > policy.body_buffer:
            stream.pace.pause(self._factory.timers.now())
            self.transport.pauseProducing()

    def on_message_complete(self) -> None:
        """The request is complete."""
        request, self._reading = self._reading, None
        if request is not None:
            cast("StreamBody", request.stream).end()
            self.deadline = NEVER
            if self._current is None and not self._queue:
                self._await_request()

    # -- reading

    def _limit_head(self, size: int) -> None:
        """A header section is incomplete: hold its time and its size to their limits.

        Its clock starts with its first byte and is not touched by the ones that follow. ``size`` counts the bytes
        that came after the read it began in, so that a field without an end is bounded too.
        """
        self._head_size += size
        if size == 0 and self._current is None and not self._queue:
            self._arm(self._factory.policy.header_timeout)
        try:
            check_limits(self._target, self._headers, self._factory.policy, self._head_size)
        except HttpError as error:
            self._refuse(error)

    def _expect_content(self, request: Http1Request, head: Head) -> None:
        """Set up the stream of a request's content, its clock and ``100 Continue``."""
        timers = self._factory.timers
        request.body = request.stream = StreamBody(self._demand, timers.now())
        request.expects = head.expect
        request.remaining = DISCARD + 1 if head.chunked else head.length
        self._reading = request
        self._arm(LOOK)

    def _demand(self) -> None:
        """The responder waits for content: let the client send it."""
        request = self._current
        if request is None or request is not self._reading:
            return
        stream = cast("StreamBody", request.stream)
        if request.expects:
            request.expects = False
            if stream.pace.received == 0:  # RFC 9110 §10.1.1: not needed once content has arrived
                self.transport.write(CONTINUE)
        self._read_on(stream)

    def _read_on(self, stream: StreamBody) -> None:
        stream.pace.resume(self._factory.timers.now())
        self.transport.resumeProducing()

    def _break_content(self, error: HttpError, ending: NetappError) -> None:
        """Content cannot be taken to its end: whoever reads it is told, and the connection ends after the answer."""
        request = cast("Http1Request", self._reading)
        self._reading = None
        self._deaf = True
        self.ending = ending
        request.keep_alive = False
        self._factory.refused(error.status)
        cast("StreamBody", request.stream).fail(error)
        if request is not self._current and not (self._queue and request in self._queue):
            self._end()  # its answer went out already; nothing is left to say

    def _parse_failed(self, error: HttpParserError) -> None:
        """Bytes that are not HTTP: tell the client, behind the answers to what came before."""
        violation = ProtocolViolation(str(error))
        if self._reading is not None:
            self._break_content(HttpError(HTTPStatus.BAD_REQUEST, "the content's framing is malformed"), violation)
            return
        last = self._queue[-1] if self._queue else self._current
        if last is not None and not last.keep_alive:
            return  # what follows a request that said "close" is nobody's
        if isinstance(error, HttpParserInvalidMethodError):
            self._refuse(HttpError(HTTPStatus.NOT_IMPLEMENTED, "not a method that is known here"))
        else:
            self._refuse(HttpError(HTTPStatus.BAD_REQUEST, "the request is malformed"))
        self.ending = violation

    def _refuse(self, error: HttpError) -> None:
        """Queue an error's response; nothing more is read, and the connection closes after it."""
        if self._deaf:
            return
        request = Http1Request("GET", self._target, Headers.from_raw(self._headers), cast("Peer", self.peer))
        request.refused = error
        request.keep_alive = False
        self._in_head = False
        self._deaf = True
        self.ending = ProtocolViolation(error.detail)
        self._factory.refused(error.status)
        self._enqueue(request)

    def _enqueue(self, request: Http1Request) -> None:
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        queue.append(request)
        if len(queue) == self._factory.policy.max_pipelined:
            self.transport.pauseProducing()

    # -- answering

    def _serve(self) -> None:
        """Answer requests until one has to be waited for."""
        if self._serving:
            return
        self._serving = True
        queue = cast("deque[Http1Request]", self._queue)
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
            if isinstance(answer, Response):
                self._respond(request, answer)
                return
            pending = answer if isinstance(answer, Deferred) else Deferred.fromCoroutine(cast("Any", answer))
        except Exception as error:  # noqa: BLE001 - a responder's defect is its request's alone
            self._respond(request, self._factory.failed(request, error))
            return
        self._pending = pending
        pending.addCallbacks(self._answered, self._failed, callbackArgs=(request,), errbackArgs=(request,))

    def _answered(self, answer: object, request: Http1Request) -> None:
        if self._current is not request:
            return  # the client is gone
        self._pending = None
        if not isinstance(answer, Response):
            problem = TypeError(f"a responder returned {type(answer).__name__} and not a Response")
            answer = self._factory.failed(request, problem)
        self._respond(request, answer)

    def _failed(self, failure: Failure, request: Http1Request) -> None:
        if self._current is not request:
            if not failure.check(CancelledError, HttpError, PeerAborted):
                _log.failure("a responder failed after its client had gone: {request}", failure, request=request)
            return
        self._pending = None
        self._respond(request, self._factory.failed(request, cast("BaseException", failure.value)))

    def _respond(self, request: Http1Request, response: Response) -> None:
        """Send a response, or begin to."""
        if isinstance(response, Upgrade):
            if request.upgradable and self._rest is not None:
                self._hand_over(request, response)
                return
            response = error_response(_UPGRADE_REQUIRED, request)
        request.keep_alive = self._keeps(request)
        body = response.body
        if not isinstance(body, bytes):
            self._sender = StreamSender(request, response, self.transport, self._factory.clock, self._streamed)
            self._sender.start(paused=self._write_full)
            return
        status = response.status
        framing = b"content-length: %d\r\n" % len(body) if has_content(status) else b""
        head = write_head(status, response.headers.raw, framing, connection_line(request))
        if body and framing and request.method != "HEAD":
            self.transport.write(head + body)
            self._finish(request, status, len(body))
        else:
            self.transport.write(head)
            self._finish(request, status, 0)

    def _keeps(self, request: Http1Request) -> bool:
        """Say whether the connection carries another response after this one."""
        if not request.keep_alive:
            return False
        if request is self._reading and (request.expects or request.remaining > DISCARD):
            # RFC 9110 §10.1.1: who was not told to continue may send the content or not: nobody can know
            return False
        limit = self._factory.policy.max_requests
        last = self._winding_down or self._deaf or (limit and self._served >= limit)
        return not last or bool(self._queue)

    def _streamed(self, request: Http1Request, status: int, sent: int, error: BaseException | None) -> None:
        """A streamed response has come to its end, or cannot be completed."""
        self._sender = None
        if self._current is not request:
            return
        if error is None:
            self._finish(request, status, sent)
            return
        self._factory.cut_short(request, error)
        self._current = None
        request.finish(status, sent, error)
        # RFC 9112 §8: a response that is incomplete must not look complete
        self._abort(LimitExceeded("response", f"the response was cut short: {error!r}"))

    def _finish(self, request: Http1Request, status: int, sent: int) -> None:
        """A response is out: go on with the next request, or close."""
        self._current = None
        request.finish(status, sent, None)
        if not request.keep_alive:
            self._end()
            return
        if request is self._reading:
            stream = cast("StreamBody", request.stream)
            stream.discard()
            self._read_on(stream)
        elif request.upgradable and self._rest is not None:
            self._parse_rest()
        if self._queue:
            self._serve()
        elif self._reading is None:
            self._await_request()

    def _await_request(self) -> None:
        """Between two requests: the next one has its time to begin, or, once begun, to complete its head."""
        policy = self._factory.policy
        if self._in_head:
            self._arm(policy.header_timeout)
            return
        timers = self._factory.timers
        self.deadline = timers.now() + policy.keepalive_timeout
        if not self.slot:
            timers.arm(self, self.deadline)

    # -- upgrading

    def _hand_over(self, request: Http1Request, response: Upgrade) -> None:
        """Give the connection to another protocol: the request's bytes first, then what came behind them."""
        rest, self._rest = cast("bytes", self._rest), None
        successor = cast("Any", response.build(request))
        self._deaf = self._closing = True
        self._current = None
        self._parser = None
        self._factory.timers.disarm(self)
        self.transport.unregisterProducer()
        replace_protocol(self.transport, self, successor)
        request.finish(response.status, 0, None)
        successor.makeConnection(self.transport)
        successor.dataReceived(request.as_bytes() + rest)
        self.transport.resumeProducing()

    def _parse_rest(self) -> None:
        """The client offered an upgrade that was not taken: what follows is HTTP/1 again (RFC 9110 §7.8)."""
        rest, self._rest = cast("bytes", self._rest), None
        self._parser = HttpRequestParser(self)
        self._resume_reading()
        if rest:
            self.dataReceived(rest)

    def _resume_reading(self) -> None:
        paused = self._reading is not None and cast("StreamBody", self._reading.stream).pace.paused
        if not paused and self._rest is None:
            self.transport.resumeProducing()

    # -- ending

    def _arm(self, seconds: float) -> None:
        timers = self._factory.timers
        timers.arm(self, timers.now() + seconds)

    def expired(self, now: float) -> None:
        """A deadline has passed; which one follows from where the connection is."""
        policy = self._factory.policy
        if self._closing:
            self._linger_expired()
        elif self._reading is not None:
            self._look_at_content(now)
        elif self._in_head:
            self._refuse(HttpError(HTTPStatus.REQUEST_TIMEOUT, f"no complete header in {policy.header_timeout:g} s"))
            self.ending = DeadlineExceeded("header_timeout")
            if self._current is None:
                self._serve()
        elif self._current is None and not self._queue:
            self.ending = DeadlineExceeded("keepalive_timeout" if self._served else "header_timeout")
            self._end()

    def _look_at_content(self, now: float) -> None:
        stream = cast("StreamBody", cast("Http1Request", self._reading).stream)
        rule = stream.pace.look(now, self._factory.policy)
        if rule is None:
            self._arm(LOOK)
            return
        error = HttpError(HTTPStatus.REQUEST_TIMEOUT, "the content arrived too slowly")
        self._break_content(error, DeadlineExceeded(rule))

    def _linger_expired(self) -> None:
        """The client did not close its side. What is still unsent is the transport's write deadline's affair."""
        if getattr(self.transport, "unsent", 0):
            self._arm(self._factory.policy.linger)
        else:
            self.transport.abortConnection()

    def _abort(self, reason: NetappError) -> None:
        self.ending = reason
        self._deaf = self._closing = True
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def _end(self) -> None:
        """Close behind what was written: half-close and linger, so that a reset destroys nothing (RFC 9112 §9.6)."""
        self._deaf = self._closing = True
        transport = self.transport
        transport.unregisterProducer()
        if self._eof or ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
            transport.loseConnection()
            self._arm(self._factory.policy.linger)
        else:
            self.deadline = NEVER
            transport.resumeProducing()
            transport.loseWriteConnection()
