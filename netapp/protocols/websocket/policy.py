"""The limits of WebSocket: each number, and where it comes from."""

from __future__ import annotations

import re

from msgspec import Struct

from netapp.units import Duration, Size

_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#@\s]+", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class WebSocketPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one WebSocket endpoint."""

    max_message: Size = 1024 * 1024
    """Size of one received message, all its fragments together and measured decoded; more is answered with Close 1009
    (RFC 6455 §7.4.1). autobahn by itself has no limit; Daphne learnt to have one in CVE-2026-44545."""
    max_frame: Size = 1024 * 1024
    """Size of one received frame's payload, as it comes over the wire; more is answered with Close 1009."""
    handshake_timeout: Duration = 5.0
    """From the hand-over to the end of the opening handshake (autobahn: 5 s)."""
    ping_interval: Duration = 20.0
    """Silence of the client after which it is pinged; 0 for never. Every byte that it sends is a sign of life."""
    ping_timeout: Duration = 20.0
    """How long the client may be silent after a ping before the connection is aborted (the ``websockets`` library: 20 s
    each). The clock stands still while we are the ones who do not read."""
    close_timeout: Duration = 5.0
    """From our Close frame to the end of the connection, which is then aborted; and how long a service's handlers may
    go on after the end of their connection before they are cancelled."""
    queue_messages: int = 32
    """Messages that may wait for a client that does not read, over what the transport's write buffer holds. One more,
    and the client is a slow consumer: it is sent Close 1013 ("try again later"), and aborted if it has not read that
    within ``close_timeout``. A service that waits for each ``send`` never gets there. As many received messages may
    wait for a busy service; then the client is no longer read from."""
    queue_bytes: Size = 1024 * 1024
    """Bytes of messages that may wait: for a client that does not read, and for a busy service; as above."""
    deflate: bool = False
    """Accept permessage-deflate (RFC 7692). It costs up to 300 KiB of memory for each connection, and compression
    beside secrets leaks them (as in CRIME), so it is off unless asked for; ``max_message`` bounds what it inflates."""
    origins: tuple[str, ...] = ()
    """The Origin values that may connect, such as ``https://example.com``; ``*`` for any, ``null`` for opaque ones.
    Empty: the origin's host and port must be those that the request was sent to (and its scheme https, if the
    request's is). A request without Origin comes from no browser, has no cookies to abuse, and is let through
    (RFC 6455 §10.2)."""
    subprotocols: tuple[str, ...] = ()
    """The subprotocols that the service speaks; the client's first choice among them is taken (RFC 6455 §1.9)."""

    def __post_init__(self) -> None:
        for name in ("max_message", "max_frame", "queue_messages", "queue_bytes", "handshake_timeout", "close_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive: without it a client takes what it likes")
        if self.ping_interval and self.ping_timeout <= 0:
            raise ValueError("ping_timeout must be positive where there is a ping_interval")
        for origin in self.origins:
            if _ORIGIN.fullmatch(origin) is None:
                raise ValueError(
                    f"an origin is '*', 'null' or such as 'https://example.com', without a path: {origin!r}"
                )
        for subprotocol in self.subprotocols:
            if _TOKEN.fullmatch(subprotocol) is None:
                raise ValueError(f"a subprotocol's name is a token (RFC 9110 §5.6.2): {subprotocol!r}")
