"""Requests and responses, as responders and filters see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from netapp.http.headers import Headers, RawHeaders

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable

    from netapp.peer import Peer

    Content = bytes | Iterable[bytes] | AsyncIterable[bytes]
    Finisher = Callable[["Request", int, int, BaseException | None], None]

TEXT = (b"content-type", b"text/plain; charset=utf-8")
HTML = (b"content-type", b"text/html; charset=utf-8")
JSON = (b"content-type", b"application/json")


class Body(Protocol):
    """The content of a request, as it arrives."""

    def read(self, limit: int | None = None) -> Awaitable[bytes]:
        """Read all of it. ``limit`` (bytes) lowers the listener's own bound; over it: HttpError 413."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the pieces as they arrive; the peer is slowed down to the pace of the reader."""


class _EmptyBody:
    """The content of a request that has none."""

    __slots__ = ()

    async def read(self, limit: int | None = None) -> bytes:  # noqa: ARG002 - the interface's argument
        return b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


EMPTY_BODY: Body = _EmptyBody()


class Request:
    """One request. Made by a protocol; read by filters and responders.

    ``target`` is the request target as sent, ``raw_path`` and ``query_string`` its parts (bytes); ``host`` is the
    authority that was asked for, lower-case and with its port, if any. ``params`` holds what the route's pattern
    matched and ``route`` the pattern itself (a label of bounded cardinality). ``started`` is the monotonic instant at
    which the header section was complete. ``state`` is for filters to leave things for each other.

    ``error_fields`` are header fields, in wire form, that filters want in an error's page too: the error that a
    responder raises passes the filters by, on its way to the protocol that makes a page of it.
    """

    __slots__ = (
        "_finishers",
        "_path",
        "_state",
        "body",
        "error_fields",
        "headers",
        "host",
        "id",
        "method",
        "params",
        "peer",
        "protocol",
        "query_string",
        "raw_path",
        "route",
        "scheme",
        "started",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        peer: Peer,
        *,
        body: Body = EMPTY_BODY,
        host: str = "",
        scheme: str = "http",
        protocol: str = "HTTP/1.1",
        raw_path: bytes | None = None,
        query_string: bytes | None = None,
        started: float = 0.0,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.peer = peer
        self.body = body
        self.host = host
        self.scheme = scheme
        self.protocol = protocol
        if raw_path is None:
            raw_path, _, query_string = target.partition(b"?")
        self.raw_path = raw_path
        self.query_string = query_string or b""
        self.started = started
        self.id = ""
        self.route = ""
        self.params: dict[str, str] = {}
        self.error_fields: tuple[tuple[bytes, bytes], ...] = ()
        self._path: str | None = None
        self._state: dict[str, Any] | None = None
        self._finishers: list[Finisher] | None = None

    @property
    def path(self) -> str:
        """The path with its percent-encoding undone (UTF-8; what is not UTF-8 becomes U+FFFD)."""
        if self._path is None:
            self._path = unquote(self.raw_path.decode("latin-1"), errors="replace")
        return self._path

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query string's pairs, in order; HttpError 400 when there are more than 1000."""
        try:
            return parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)
        except ValueError:
            from netapp.http.errors import HttpError  # noqa: PLC0415 - errors are made of the responses defined here

            raise HttpError(400, "the query has too many fields") from None

    @property
    def state(self) -> dict[str, Any]:
        """A dictionary for what filters leave for each other and for the responder."""
        if self._state is None:
            self._state = {}
        return self._state

    def on_finish(self, finisher: Finisher) -> None:
        """Call ``finisher(request, status, sent, error)`` once, when the response is over.

        ``status`` is what was sent (0 if nothing was), ``sent`` counts the content's bytes, and ``error`` is why it
        was cut short, or None.
        """
        if self._finishers is None:
            self._finishers = [finisher]
        else:
            self._finishers.append(finisher)

    def finish(self, status: int, sent: int, error: BaseException | None) -> None:
        """Tell every finisher; called once by the protocol that carries the request.

        All are told even when one fails, for the next may hold a count to release; the last failure is raised.
        """
        finishers = self._finishers
        if finishers is None:
            return
        self._finishers = None
        failure: Exception | None = None
        for finisher in finishers:
            try:
                finisher(self, status, sent, error)
            except Exception as problem:  # noqa: BLE001 - raised below
                failure = problem
        if failure is not None:
            raise failure

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target.decode('latin-1')!r} {self.id or self.peer.id}>"


class Response:
    """One response. ``body`` is bytes, an iterable of bytes or an asynchronous iterable of bytes.

    With bytes the length is known and announced; an iterable is streamed, at the pace of the reader.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int = 200, body: Content = b"", headers: Headers | Iterable[tuple[str, str]] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)

    @classmethod
    def of(cls, status: int, body: Content, raw: RawHeaders) -> Response:
        """Make one from valid raw header pairs, without checks; the list is taken over."""
        made = cls.__new__(cls)
        made.status = status
        made.body = body
        made.headers = Headers.from_raw(raw)
        return made

    @classmethod
    def text(cls, text: str, status: int = 200) -> Response:
        """Make a text/plain response."""
        return cls.of(status, text.encode(), [TEXT])

    @classmethod
    def html(cls, text: str, status: int = 200) -> Response:
        """Make a text/html response."""
        return cls.of(status, text.encode(), [HTML])

    @classmethod
    def json(cls, value: object, status: int = 200) -> Response:
        """Make an application/json response of anything that msgspec encodes."""
        return cls.of(status, msgspec.json.encode(value), [JSON])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


class Upgrade(Response):
    """Hand the connection over to another protocol (RFC 9110 §7.8).

    ``build`` is called with the request and returns a Twisted protocol, which is then given the transport, the bytes
    of the request itself (it answers the handshake, as autobahn does) and whatever came behind them.
    """

    __slots__ = ("build",)

    def __init__(self, build: Callable[[Request], object]) -> None:
        super().__init__(101)
        self.build = build
