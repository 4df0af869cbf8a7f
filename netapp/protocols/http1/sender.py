"""Sending a response whose content is produced piece by piece, at the pace of the client."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from netapp.protocols.http1.writer import LAST_CHUNK, announced_length, connection_line, has_content, write_head

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

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

    __slots__ = ("_clock", "_done", "_paused", "_request", "_response", "_running", "_transport", "begun", "sent")

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
        self.begun = False
        self.sent = 0

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
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def _ended(self, _: None) -> None:
        self._running = None
        self._done(self._request, self._response.status, self.sent, None)

    def _broken(self, failure: Failure) -> None:
        self._running = None
        self._done(self._request, self._response.status, self.sent, cast("BaseException", failure.value))

    async def _send(self) -> None:
        request, response = self._request, self._response
        raw = response.headers.raw
        length = announced_length(raw)
        sends = has_content(response.status)
        chunked = sends and length is None and request.protocol == "HTTP/1.1"
        if sends and length is None and not chunked and request.method != "HEAD":
            request.keep_alive = False
        framing = b"transfer-encoding: chunked\r\n" if chunked else b""
        if sends and length is not None:
            framing = b"content-length: %d\r\n" % length
        content = _pieces(cast("Iterable[bytes] | AsyncIterable[bytes]", response.body))
        try:
            # RFC 9110 §10.1.1: no 100 after the final status. A content that is made of the request's asks for it
            # with its first piece, so that one is had before the head is sent.
            first = await anext(content, b"") if request.expects and sends else b""
            self.begun = True
            self._transport.write(write_head(response.status, raw, framing, connection_line(request)))
            if sends and request.method != "HEAD":
                await self._send_content(first, content, length, chunked=chunked)
        finally:
            await content.aclose()

    async def _send_content(
        self, first: bytes, content: AsyncIterator[bytes], length: int | None, *, chunked: bool
    ) -> None:
        unturned = 0
        async for piece in _chain(first, content):
            size = len(piece)
            if not size:
                continue
            self.sent += size
            if length is not None and self.sent > length:
                raise LengthMismatch(f"announced {length} bytes and produced more")
            self._transport.write(b"%x\r\n%b\r\n" % (size, piece) if chunked else piece)
            unturned += size
            if self._paused is not None:
                unturned = 0
                await self._paused
            elif unturned >= TURN:
                unturned = 0
                await deferLater(self._clock, 0)
        if length is not None and self.sent != length:
            raise LengthMismatch(f"announced {length} bytes and produced {self.sent}")
        if chunked:
            self._transport.write(LAST_CHUNK)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _pieces(body: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Iterate over either kind, and close a generator that is not run to its end at once."""
    try:
        if isinstance(body, AsyncIterable):
            async for piece in body:
                yield piece
        else:
            for piece in body:
                yield piece
    finally:
        if (aclose := getattr(body, "aclose", None)) is not None:
            await aclose()
        elif (close := getattr(body, "close", None)) is not None:
            close()
