"""The limits of HTTP/1: each number, and who learnt it the hard way."""

from __future__ import annotations

from msgspec import Struct

from netapp.units import Duration, Size


class HttpPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one HTTP listener."""

    header_timeout: Duration = 10.0
    """From a request's first byte (or the connection's start) to the end of its header section; bytes that trickle
    in do not extend it. Answered with 408. HAProxy's ``timeout http-request`` is absolute in the same way."""
    keepalive_timeout: Duration = 75.0
    """How long a connection may wait for its next request (nginx: 75 s)."""
    max_requests: int = 1000
    """Requests served over one connection before it is closed in order (nginx: 1000); 0 for no limit."""
    max_request_line: Size = 8 * 1024
    """Length of the request target; more is answered with 414 (RFC 9110 §15.5.15)."""
    max_headers: int = 100
    """Number of header fields; more is answered with 431 (HAProxy: 101)."""
    max_header_size: Size = 32 * 1024
    """Size of the header section; more is answered with 431 (RFC 6585 §5)."""
    max_body: Size = 1024 * 1024
    """Size of a request's content after the transfer coding is undone; more is answered with 413 (nginx: 1 MiB)."""
    body_timeout: Duration = 30.0
    """How long a request's content may stand still; answered with 408."""
    min_body_rate: Size = 240
    """Bytes a second that a request's content must average after ``body_grace``; slower is answered with 408
    (Apache's mod_reqtimeout and Kestrel use the same order); 0 for no minimum."""
    body_grace: Duration = 10.0
    """How long a request's content may be slower than ``min_body_rate``."""
    body_buffer: Size = 64 * 1024
    """Content held for a responder that does not read it yet; beyond, the client is no longer read from."""
    max_pipelined: int = 16
    """Requests that may wait behind the one being answered; beyond, the client is no longer read from."""
    linger: Duration = 2.0
    """After the last response: how long to wait, the sending side closed, for the client to close as well, so that
    a reset does not destroy what it has not read yet (RFC 9112 §9.6)."""

    def __post_init__(self) -> None:
        if self.header_timeout <= 0:
            raise ValueError("header_timeout must be positive: without it a slow client holds a connection for ever")
        if self.max_headers < 1 or self.max_pipelined < 1:
            raise ValueError("max_headers and max_pipelined must be at least 1")
