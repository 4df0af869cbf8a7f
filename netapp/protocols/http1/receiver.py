"""The receiving half of an HTTP/1 connection: from bytes to requests, and every limit on the way.

The callbacks of httptools (llhttp) only note what came. A request is queued when its header section is complete; its
content then flows into its stream. What breaks a rule is queued as well, as a request whose answer is known: so the
answers to what came before it are sent first.
"""

from __future__ import annotations

import re
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from netapp.errors import DeadlineExceeded, Draining, LimitExceeded, ProtocolViolation
from netapp.http.errors import HttpError
from netapp.http.headers import Headers, RawHeaders
from netapp.protocols.http1.body import StreamBody
from netapp.protocols.http1.exchange import DISCARD, Http1Request
from netapp.protocols.http1.head import FRAMING, Head, check_limits, read_head
from netapp.protocols.http1.pace import LOOK
from netapp.protocols.http1.writer import CONTINUE
from netapp.timers import NEVER

if TYPE_CHECKING:
    from netapp.errors import NetappError
    from netapp.peer import Peer
    from netapp.protocols.http1.factory import Http1Factory

SLICE = 16 * 1024
"""Bytes that are parsed at a time: of a whole read there could be thousands of requests, each of many times its size
once it is parsed, before the queue's limit would stop it."""
_BEGUN_NOW = -1
_NO_HEADERS: RawHeaders = []
_LIMITS: dict[int, str] = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "max_body",
    HTTPStatus.REQUEST_URI_TOO_LONG: "max_request_line",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "max_header_size",
}

_BEGINS_NO_TOKEN = re.compile(rb"[\r\n]*[^\r\n!#$%&'*+\-.^_`|~0-9A-Za-z]")


class Http1Receiver:
    """Receives for :class:`netapp.protocols.http1.protocol.Http1Protocol`, which answers.

    - ``_in_head``: a header section has begun and is not complete;
    - ``_reading``: the request whose content still arrives;
    - ``_queue``: requests that wait for their turn;
    - ``_current``: the request that is being answered, by the other half;
    - ``_rest``: bytes that wait: the queue is full, or they are behind an offered upgrade and may not be HTTP/1;
    - ``_deaf``: nothing more is parsed, but what was accepted is still answered;
    - ``_closing``: no further response is begun;
    - ``_draining``: when everything that was accepted has been answered, there is no waiting for more.
    """

    __slots__ = (
        "_closing",
        "_current",
        "_deaf",
        "_draining",
        "_factory",
        "_head_size",
        "_headers",
        "_in_head",
        "_parser",
        "_queue",
        "_reading",
        "_rest",
        "_scheme",
        "_served",
        "_target",
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
        self._rest: bytes | None = None
        self._scheme = "http"
        self._served = 0
        self._deaf = False
        self._closing = False
        self._draining = False
        self.ending: NetappError | None = None
        self.peer: Peer | None = None
        self.transport: Any = None
        self.deadline = NEVER
        self.slot = 0

    def _serve(self) -> None:
        """Answer what is queued."""
        raise NotImplementedError

    def _end(self) -> None:
        """Close behind what was written."""
        raise NotImplementedError

    def expired(self, now: float) -> None:
        """Act on a deadline."""
        raise NotImplementedError

    def dataReceived(self, data: bytes) -> None:
        """Feed what arrived to the parser, then answer what is complete."""
        if self._deaf:
            return
        if self._rest is not None:
            self._rest += data
            return
        if len(data) > SLICE and not self._is_content(len(data)):
            self._feed_slices(data)
            return
        in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._hold(data[upgrade.args[0] :])
        except HttpParserError as error:
            self._parse_failed(error, b"" if in_head else data)
        else:
            if self._in_head:
                self._limit_head(len(data))
            elif self._reading is not None:
                self._limit_framing(self._reading, len(data))
        if self._queue and self._current is None:
            self._serve()

    def _is_content(self, size: int) -> bool:
        """Say whether the next ``size`` bytes can be nothing but content, because so much of it was announced."""
        if self._reading is None:
            return False
        announced = self._reading.headers.get("content-length")
        received = cast("StreamBody", self._reading.stream).pace.received
        return announced is not None and int(announced) - received >= size

    def _feed_slices(self, data: bytes) -> None:
        """Feed a large read as several; what is over when enough requests wait will wait too."""
        for start in range(0, len(data), SLICE):
            if self._rest is None and self._queue and len(self._queue) >= self._factory.policy.max_pipelined:
                self._rest = data[start:]
                return
            self.dataReceived(data[start : start + SLICE])

    # -- what httptools calls

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._in_head = True
        self._head_size = _BEGUN_NOW
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
            self._refuse(error, method)
            return
        content = head.chunked or head.length > 0
        request = Http1Request(
            method,
            self._target,
            Headers.from_raw(raw),
            self.peer,  # type: ignore[arg-type]  # set before the first byte; a cast would cost a call for each request
            host=head.host,
            scheme=self._scheme,
            protocol="HTTP/1.1" if version == "1.1" else "HTTP/1.0",
            raw_path=head.path,
            query_string=head.query,
            started=factory.timers.now(),
        ).framed(
            # where the parser, which looks at Proxy-Connection too, will read no further, nothing further can be read
            keep_alive=head.keep_alive and parser.should_keep_alive(),
            # RFC 9110 §7.8: not in HTTP/1.0; and content would have to be read before the other protocol begins
            upgradable=parser.should_upgrade() and version == "1.1" and not content,
        )
        self._headers = _NO_HEADERS  # not to be kept for as long as the connection is idle
        self._target = b""
        if content:
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
        request = self._reading
        if request is None or self._parser.should_upgrade():
            return  # it has no content; or only the parser thinks so: see _read_offered_content
        self._reading = None
        self.deadline = NEVER
        if self._current is None and not self._queue:
            self._await_request()
        cast("StreamBody", request.stream).end()  # last: its reader may answer at once, and that may end it all

    # -- limits and faults

    def _limit_head(self, size: int) -> None:
        """A header section is incomplete: hold its time and its size to their limits.

        Its clock starts with its first byte and is not touched by the ones that follow. ``size`` is that of the read.
        """
        if self._deaf:
            return
        if self._head_size == _BEGUN_NOW:
            self._head_size = 0
            if self._current is None and not self._queue:
                self._arm(self._factory.policy.header_timeout)
        else:
            self._head_size += size
        error = self._over_limits()
        if error is not None:
            self._refuse(error)

    def _over_limits(self) -> HttpError | None:
        try:
            check_limits(self._target, self._headers, self._factory.policy, self._head_size)
        except HttpError as error:
            return error
        return None

    def _limit_framing(self, request: Http1Request, size: int) -> None:
        """Bound what is neither content nor progress: chunk extensions (RFC 9112 §7.1.1) and trailer fields."""
        limit = self._factory.policy.max_header_size
        if cast("StreamBody", request.stream).overhead(size) > limit:
            error = HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"over {limit} bytes beside the content")
            self._break_content(error, LimitExceeded("max_header_size"))

    def _expect_content(self, request: Http1Request, head: Head) -> None:
        """Set up the stream of a request's content, its clock and ``100 Continue``."""
        timers = self._factory.timers
        request.body = request.stream = StreamBody(self._demand, timers.now())
        request.remaining = DISCARD + 1 if head.chunked else head.length
        if head.expect:
            request.expects = True
            request.stream.pace.pause(timers.now())  # until it is asked to go on, the client owes nothing
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
        answered = request is not self._current and not (self._queue and request in self._queue)
        self._reading = None
        self._deaf = True
        self.ending = ending
        request.keep_alive = False
        self._factory.refused(error.status)
        if answered:
            self._end()  # nothing is left to say
        else:
            cast("StreamBody", request.stream).fail(error)

    def _parse_failed(self, error: HttpParserError, data: bytes) -> None:
        """Bytes that are not HTTP: tell the client, behind the answers to what came before.

        ``data`` is the read, where nothing of a request had come before it.
        """
        if isinstance(error, HttpParserCallbackError):
            raise error  # a defect of ours, and not the client's: whoever carries the connection logs it and ends it
        violation = ProtocolViolation(str(error))
        if self._reading is not None:
            self._break_content(HttpError(HTTPStatus.BAD_REQUEST, "the content's framing is malformed"), violation)
            return
        last = self._queue[-1] if self._queue else self._current
        if self._deaf or (last is not None and not last.keep_alive):
            self._deaf = True  # what follows a request that said "close" is nobody's
            return
        over = self._over_limits() if self._in_head else None
        if over is not None:
            self._refuse(over)  # as it would have been, had the bytes come one by one
            return
        if isinstance(error, HttpParserInvalidMethodError) and not self._is_no_http(data):
            self._refuse(HttpError(HTTPStatus.NOT_IMPLEMENTED, "not a method that is known here"))
        else:
            self._refuse(HttpError(HTTPStatus.BAD_REQUEST, "the request is malformed"))
        self.ending = violation

    def _is_no_http(self, data: bytes) -> bool:
        """Say whether a connection begins with what can begin no method (RFC 9110 §9.1), such as TLS."""
        if self._served or self._queue:
            return False  # it was HTTP a moment ago
        return bool(_BEGINS_NO_TOKEN.match(data))

    def _refuse(self, error: HttpError, method: str = "GET") -> None:
        """Queue an error's response; nothing more is read, and the connection closes after it."""
        made = Http1Request(method, self._target, Headers.from_raw(self._headers), cast("Peer", self.peer))
        request = made.framed(keep_alive=False)
        request.refused = error
        self._in_head = False
        self._deaf = True
        limit = _LIMITS.get(error.status)
        self.ending = LimitExceeded(limit, error.detail) if limit else ProtocolViolation(error.detail)
        self._factory.refused(error.status)
        self._enqueue(request)

    def _enqueue(self, request: Http1Request) -> None:
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        queue.append(request)
        if len(queue) == self._factory.policy.max_pipelined:
            self.transport.pauseProducing()

    def _hold(self, rest: bytes) -> None:
        """The client offers an upgrade: what follows may be another protocol, so it waits until that is decided."""
        if self._deaf:
            return
        if self._reading is not None:
            self._read_offered_content(self._reading, rest)
            return
        self._rest = rest
        self.transport.pauseProducing()

    def _read_offered_content(self, request: Http1Request, rest: bytes) -> None:
        """Content follows after all.

        httptools has llhttp take what follows an offered upgrade for the other protocol, even where the request has
        content: read as requests, it would be smuggled ones. So it goes to a parser that knows nothing of the offer.
        """
        fields = [b"%b: %b\r\n" % pair for pair in request.headers.raw if pair[0] in FRAMING]
        self._parser = HttpRequestParser(self)
        self._deaf = True  # to a header section that was read already
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(fields))
        self._deaf = False
        if rest:
            self.dataReceived(rest)

    def _parse_rest(self) -> None:
        """There is room for more, or the upgrade was not taken and what follows is HTTP/1 again (RFC 9110 §7.8)."""
        rest, self._rest = cast("bytes", self._rest), None
        self._resume_reading()
        if rest:
            self.dataReceived(rest)
        if self._current is None and not self._queue and self._reading is None and not self._closing:
            self._await_request()

    def _resume_reading(self) -> None:
        """The queue has room again."""
        if self._rest is not None:
            last = self._queue[-1] if self._queue else self._current
            if last is None or not last.upgradable:
                self._parse_rest()
            return
        paused = self._reading is not None and cast("StreamBody", self._reading.stream).pace.paused
        if not paused:
            self.transport.resumeProducing()

    # -- deadlines

    def _arm(self, seconds: float) -> None:
        timers = self._factory.timers
        timers.arm(self, timers.now() + seconds)

    def _await_request(self) -> None:
        """Between two requests: the next one has its time to begin, or, once begun, to complete its head."""
        factory = self._factory
        if self._deaf:
            self._end()  # there will be none
            return
        if self._in_head:
            self._arm(factory.policy.header_timeout)
            return
        if self._draining:
            self.ending = Draining("closed after its last answer: the server is stopping")
            self._end()
            return
        timers = factory.timers
        self.deadline = timers.now() + factory.policy.keepalive_timeout
        if not self.slot or factory.rearms:
            timers.arm(self, self.deadline)

    def _look_at_content(self, now: float) -> None:
        stream = cast("StreamBody", cast("Http1Request", self._reading).stream)
        rule = stream.pace.look(now, self._factory.policy)
        if rule is None:
            self._arm(LOOK)
            return
        error = HttpError(HTTPStatus.REQUEST_TIMEOUT, "the content arrived too slowly")
        self._break_content(error, DeadlineExceeded(rule))

    def _head_expired(self) -> None:
        """A header section took too long."""
        limit = self._factory.policy.header_timeout
        self._refuse(HttpError(HTTPStatus.REQUEST_TIMEOUT, f"no complete header section in {limit:g} s"))
        self.ending = DeadlineExceeded("header_timeout")
        if self._current is None:
            self._serve()
