"""Sending a response whose content is produced piece by piece, at the pace of the client."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from netapp.protocols.http1.exchange import DISCARD
from netapp.protocols.http1.writer import LAST_CHUNK, announced_length, connection_line, has_content, write_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IReactorTime, ITransport
    from twisted.python.failure import Failure

    from netapp.http.message import Response
    from netapp.protocols.http1.exchange import Http1Request

    Done = Callable[[Http1Request, int, int, BaseException | None], None]

TURN = 256 * 1024
"""Bytes after which the reactor gets a turn, even when the client reads faster than we produce."""


class LengthMismatch(Exception):  # noqa: N818 - says what happened
    """A responder announced one length and produced another."""


class StreamSender:
    """Sends one response; ``done(request, status, sent, error)`` is called once at its end.

    Content of unknown length is sent in chunks (RFC 9112 §7.1), or, to an HTTP/1.0 client, until the connection is
    closed (§6.3 rule 8). ``begun`` says whether the head is out, and ``sent`` counts the content's bytes.
    """

    __slots__ = (
        "_clock",
        "_done",
        "_paused",
        "_request",
        "_response",
        "_running",
        "_stopped",
        "_transport",
        "begun",
        "sent",
    )

    def __init__(
        self, request: Http1Request, response: Response, transport: ITransport, clock: IReactorTime, done: Done
    ) -> None:
        self._request = request
        self._response = response
        self._transport = transport
        self._clock = clock
        self._done = done
        self._paused: Deferred[None] | None = None
        self._running: Deferred[None] | None = None
        self._stopped = False
        self.begun = False
        self.sent = 0

    @property
    def status(self) -> int:
        """The status that was sent, 0 while none was."""
        return self._response.status if self.begun else 0

    def start(self, *, paused: bool) -> None:
        """Send the head and begin with the content; ``paused`` when the client does not read at the moment."""
        if paused:
            self.pause()
        running = self._running = Deferred.fromCoroutine(self._send())
        running.addCallbacks(self._ended, self._broken)

    def pause(self) -> None:
        """Stop at the next piece."""
        if self._paused is None:
            self._paused = Deferred()

    def resume(self) -> None:
        """Go on."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stop(self) -> None:
        """Give up: the client is gone. The content's own ``finally`` blocks run."""
        self._stopped = True  # for content that takes no notice of being cancelled
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def _ended(self, _: None) -> None:
        self._running = None
        self._done(self._request, self._response.status, self.sent, None)

    def _broken(self, failure: Failure) -> None:
        self._running = None
        self._done(self._request, self.status, self.sent, cast("BaseException", failure.value))

    async def _send(self) -> None:
        request, response = self._request, self._response
        pieces = _Pieces(cast("Iterable[bytes] | AsyncIterable[bytes]", response.body))
        try:
            pieces.open()
            length = announced_length(response.headers.raw)
            sends = has_content(response.status) and request.method != "HEAD"
            # RFC 9110 §10.1.1: no 100 after the final status. A content that is made of the request's asks for it
            # with its first piece, so that one is had before the head is sent.
            first = await pieces.next() if request.expects and sends else b""
            self._send_head(length, sends=sends)
            if sends:
                await self._send_content(first, pieces, length)
        finally:
            await pieces.close()

    def _send_head(self, length: int | None, *, sends: bool) -> None:
        request, response = self._request, self._response
        framing = b""
        if has_content(response.status):
            if length is not None:
                framing = b"content-length: %d\r\n" % length
            elif request.protocol == "HTTP/1.1":
                framing = b"transfer-encoding: chunked\r\n"
            elif sends:
                request.keep_alive = False
        if request.expects:
            # It was not asked for its content and will not be any more: it may send it or not.
            request.expects = False
            request.remaining = DISCARD + 1
        head = write_head(response.status, response.headers.raw, framing, connection_line(request))
        self.begun = True
        self._transport.write(head)

    async def _send_content(self, piece: bytes | None, pieces: _Pieces, length: int | None) -> None:
        chunked = length is None and self._request.protocol == "HTTP/1.1"
        unturned = 0
        while piece is not None:
            if piece:
                self._send_piece(piece, length, chunked=chunked)
                unturned += len(piece)
            if self._paused is not None:
                unturned = 0
                await self._paused
            elif unturned >= TURN:
                unturned = 0
                await deferLater(self._clock, 0)
            piece = await pieces.next()
            if self._stopped:
                raise CancelledError
        if length is not None and self.sent != length:
            raise LengthMismatch(f"announced {length} bytes and produced {self.sent}")
        if chunked:
            self._transport.write(LAST_CHUNK)

    def _send_piece(self, piece: bytes, length: int | None, *, chunked: bool) -> None:
        size = len(piece)
        if length is not None and self.sent + size > length:
            raise LengthMismatch(f"announced {length} bytes and produced more")
        self._transport.write(b"%x\r\n%b\r\n" % (size, piece) if chunked else piece)
        self.sent += size


class _Pieces:
    """A response's content, iterable in either way, as one sequence that is closed whatever became of it."""

    __slots__ = ("_asynchronous", "_body", "_iterator")

    def __init__(self, body: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        self._body = body
        self._asynchronous = isinstance(body, AsyncIterable)
        self._iterator: Any = None

    def open(self) -> None:
        """Begin; TypeError when it is no content at all."""
        self._iterator = aiter(cast("Any", self._body)) if self._asynchronous else iter(cast("Any", self._body))

    async def next(self) -> bytes | None:
        """Return the next piece, None behind the last."""
        if self._asynchronous:
            return cast("bytes | None", await anext(self._iterator, None))
        return cast("bytes | None", next(self._iterator, None))

    async def close(self) -> None:
        """Close what is iterated and what iterates over it; a generator that was not run to its end ends here."""
        if self._iterator is not None and self._iterator is not self._body:
            await _close(self._iterator)
        await _close(self._body)


async def _close(thing: Any) -> None:
    if (aclose := getattr(thing, "aclose", None)) is not None:
        await aclose()
    elif (close := getattr(thing, "close", None)) is not None:
        close()


def drop(response: Response) -> Deferred[None]:
    """Close the content of a response that will not be sent: it may hold a file or another connection."""
    body = response.body
    return Deferred.fromCoroutine(_close(None if isinstance(body, bytes) else body))
