"""A request together with what only its connection knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netapp.http.message import Request

if TYPE_CHECKING:
    from netapp.http.errors import HttpError
    from netapp.protocols.http1.body import StreamBody

DISCARD = 256 * 1024
"""Bytes of unread content that are read and dropped to keep a connection; beyond, closing it is cheaper."""


class Http1Request(Request):
    """A request that came over HTTP/1: responders see a Request and nothing of these.

    ``remaining`` is the size of the content (bytes) as announced, ``expects`` whether the client waits for
    ``100 Continue``, and ``refused`` the error that is the whole answer to a malformed request.
    """

    __slots__ = ("expects", "keep_alive", "refused", "remaining", "stream", "upgradable")
    keep_alive: bool
    upgradable: bool
    stream: StreamBody | None
    expects: bool
    remaining: int
    refused: HttpError | None

    def framed(self, *, keep_alive: bool, upgradable: bool = False) -> Http1Request:
        """Set what the connection needs; not an ``__init__``, whose second call is dear on the way of every request."""
        self.keep_alive = keep_alive
        self.upgradable = upgradable
        self.stream = None
        self.expects = False
        self.remaining = 0
        self.refused = None
        return self

    def as_bytes(self) -> bytes:
        """Serialise the header section anew, for a protocol that reads its handshake by itself."""
        lines = [b"%b %b %b\r\n" % (self.method.encode(), self.target, self.protocol.encode())]
        lines += [b"%b: %b\r\n" % pair for pair in self.headers.raw]
        return b"".join([*lines, b"\r\n"])
