"""Response heads as bytes: status lines made once, the Date field made once a second."""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING

from netapp.http.errors import reason_phrase

if TYPE_CHECKING:
    from netapp.http.headers import RawHeaders
    from netapp.protocols.http1.exchange import Http1Request

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
_UPGRADE_REQUIRED = 426

_LINES: dict[int, bytes] = {}
# the connection's own: a responder that sets one of these cannot know what the connection will do
_OWN = frozenset({b"connection", b"transfer-encoding", b"content-length", b"keep-alive", b"upgrade", b"date"})


class _DateLine:
    """The Date field (RFC 9110 §6.6.1), made anew when the second has changed."""

    __slots__ = ("_line", "_until")

    def __init__(self) -> None:
        self._until = 0.0
        self._line = b""

    def __call__(self) -> bytes:
        now = time()
        if not self._until - 1 <= now < self._until:  # the second has passed, or somebody has set the clock back
            second = int(now)
            self._until = second + 1.0
            self._line = b"date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._line


date_line = _DateLine()


def status_line(status: int) -> bytes:
    """Return ``HTTP/1.1 200 OK`` and its line end; ValueError for what is no final status (RFC 9110 §15)."""
    line = _LINES.get(status)
    if line is None:
        if not 200 <= status <= 999:  # noqa: PLR2004 - the first final status, and the last of three digits
            raise ValueError(f"not the status of a final response: {status}")
        line = _LINES[status] = b"HTTP/1.1 %d %b\r\n" % (status, reason_phrase(status).encode())
    return line


def connection_line(request: Http1Request) -> bytes:
    """Return the Connection line of a response, where one is needed (RFC 9112 §9.3)."""
    if not request.keep_alive:
        return b"connection: close\r\n"
    return b"" if request.protocol == "HTTP/1.1" else b"connection: keep-alive\r\n"


def has_content(status: int) -> bool:
    """Say whether a response of this status may have content at all (RFC 9110 §6.4.1)."""
    return status >= 200 and status not in {204, 304}  # noqa: PLR2004 - the status codes themselves


def write_head(status: int, raw: RawHeaders, framing: bytes, connection: bytes) -> bytes:
    """Serialise a head, its empty line included.

    ``framing`` is the Content-Length or Transfer-Encoding line, ``connection`` the Connection line; both may be empty.
    """
    lines = [b"%b: %b\r\n" % field for field in raw if field[0] not in _OWN]
    date = date_line()
    if len(lines) != len(raw):
        date, connection = _settle_own(status, raw, lines, date, connection)
    return b"".join((status_line(status), date, *lines, framing, connection, b"\r\n"))


def _settle_own(
    status: int, raw: RawHeaders, lines: list[bytes], date: bytes, connection: bytes
) -> tuple[bytes, bytes]:
    """See to fields that are the connection's own: most are dropped. Return the Date and the Connection line."""
    for name, value in raw:
        if name == b"date":
            date = b"date: %b\r\n" % value
        elif name == b"upgrade" and status == _UPGRADE_REQUIRED:
            # RFC 9110 §15.5.22: 426 names what is required; and Connection names Upgrade, wherever it stands (§7.8)
            lines.append(b"upgrade: %b\r\n" % value)
            connection = (connection[:-2] + b", " if connection else b"connection: ") + b"upgrade\r\n"
    return date, connection


def announced_length(raw: RawHeaders) -> int | None:
    """Return the Content-Length that a responder set, if it did; ValueError when it is no number (RFC 9110 §8.6)."""
    for name, value in raw:
        if name == b"content-length":
            if not value.isdigit():
                raise ValueError(f"not a Content-Length: {value!r}")
            return int(value)
    return None
