"""What a request's header section means: the checks that llhttp leaves to its user. Pure.

llhttp, in its strict mode, refuses by itself: Content-Length that is empty, signed, repeated, a list or beside
Transfer-Encoding; a last coding that is not chunked; obs-fold; white space around a field name; bare CR and bare LF;
control characters. Here is the rest of RFC 9112, and what keeps two parsers in one chain from reading two meanings.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from netapp.http.errors import HttpError

if TYPE_CHECKING:
    from netapp.http.headers import RawHeaders
    from netapp.protocols.http1.policy import HttpPolicy

TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_FIXED = 64
"""Bytes, at most, of a header section that is neither target nor field: method, version, spaces and line ends."""

# RFC 3986 §3.2.2: an IP literal in brackets or a registered name, then a port; no userinfo (RFC 9110 §4.2.4)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~!$&'()*+,;=%-]{1,253})(?::[0-9]{0,5})?")
_SCHEME = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_VERSIONS = frozenset({"1.0", "1.1"})
REMEMBERED = 256
"""Bytes of a target that is worth remembering: 2,048 of these are half a MiB."""


class Head:
    """The framing and the routing facts of one header section.

    ``chunked`` and ``length`` say how the content is framed (RFC 9112 §6.3); ``length`` is 0 for none.
    """

    host: str
    path: bytes
    query: bytes
    __slots__ = ("chunked", "closes", "expect", "host", "keep_alive", "length", "path", "query")

    def __init__(self, *, keep_alive: bool) -> None:
        self.chunked = False
        self.closes = False
        self.expect = False
        self.keep_alive = keep_alive
        self.length = 0


def check_limits(target: bytes, raw: RawHeaders, policy: HttpPolicy, pending: int = 0) -> None:
    """Hold a header section, complete or not, to its limits.

    ``pending`` counts the bytes of an incomplete one, as far as they are known: request line, fields, and what is in
    no field yet. Only white space beside a field's value is in none of the limits, so over the sum of them no section
    can still become one that is within each: the answer does not depend on how the bytes were split.

    Raises HttpError 414 (RFC 9110 §15.5.15) or 431 (RFC 6585 §5).
    """
    if len(target) > policy.max_request_line:
        raise HttpError(HTTPStatus.REQUEST_URI_TOO_LONG, f"the target is over {policy.max_request_line} bytes")
    if len(raw) > policy.max_headers:
        raise HttpError(TOO_LARGE, f"there are more than {policy.max_headers} header fields")
    size = 0
    for name, value in raw:
        size += len(name) + len(value) + 4
    if size > policy.max_header_size or pending > policy.max_request_line + policy.max_header_size + _FIXED:
        raise HttpError(TOO_LARGE, f"the header section is over {policy.max_header_size} bytes")


def read_head(method: str, target: bytes, version: str, raw: RawHeaders, policy: HttpPolicy) -> Head:
    """Check a header section and say what it means; drops the fields of ``raw`` that are not to be trusted.

    Raises HttpError: 400 for a malformed one, 413, 417, 501 and 505 as RFC 9110 §15 has them.
    """
    if version not in _VERSIONS:
        raise HttpError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.0 and HTTP/1.1 are spoken here")
    head = Head(keep_alive=version == "1.1")
    host: bytes | None = None
    underscored = False
    for name, value in raw:
        if b"_" in name:
            underscored = True
        elif name in _SPECIAL:
            if name == b"host":
                if host is not None:
                    raise HttpError(HTTPStatus.BAD_REQUEST, "more than one Host field")
                host = value
            else:
                _read_special(head, name, value, version)
        if b"\x85" in value:
            # NEL: some recipients take it for a line break
            raise HttpError(HTTPStatus.BAD_REQUEST, "a control character in a field value")
    if head.length > policy.max_body:
        raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the content is over {policy.max_body} bytes")
    if underscored:
        # CGI and WSGI turn '-' into '_': X_Real_IP would pass for X-Real-IP (as nginx, HAProxy and Envoy do)
        raw[:] = [pair for pair in raw if b"_" not in pair[0]]
    # The same few targets are asked for again and again; long ones, which an attacker makes, are not remembered.
    locate = _locate_again if len(target) <= REMEMBERED else _locate
    head.host, head.path, head.query = locate(method, target, host, version)
    return head


def _read_special(head: Head, name: bytes, value: bytes, version: str) -> None:
    if name == b"content-length":
        head.length = int(value)  # llhttp has checked that it is one decimal number
    elif name == b"connection":
        options = {option.strip() for option in value.lower().split(b",")}
        if b"close" in options:
            head.closes = True  # for good, whatever another Connection field says (RFC 9112 §9.3)
            head.keep_alive = False
        elif b"keep-alive" in options:
            head.keep_alive = not head.closes
    elif name == b"transfer-encoding":
        # RFC 9112 §6.1: HTTP/1.0 has none. §6.3: where chunked is not the last, the end of the content is anybody's
        # guess, which is 400; and so for every other coding: who stacks them wants two readers to differ
        if version == "1.0":
            raise HttpError(HTTPStatus.BAD_REQUEST, "Transfer-Encoding in HTTP/1.0")
        if value.strip(b" \t").lower() != b"chunked":
            raise HttpError(HTTPStatus.BAD_REQUEST, "the only transfer coding understood here is chunked")
        head.chunked = True
    elif value.strip(b" \t").lower() == b"100-continue":
        head.expect = version != "1.0"  # RFC 9110 §10.1.1: ignored in an HTTP/1.0 request
    else:
        raise HttpError(HTTPStatus.EXPECTATION_FAILED, "the only expectation understood here is 100-continue")


_SPECIAL = frozenset({b"host", b"content-length", b"connection", b"transfer-encoding", b"expect"})
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# what else llhttp reads: tunnels, and methods of RTSP, whose version it then takes for that of HTTP
_NOT_OFFERED = frozenset({"CONNECT", "ANNOUNCE", "DESCRIBE", "FLUSH", "GET_PARAMETER", "PAUSE", "PLAY", "RECORD"})
_NOT_OFFERED |= {"REDIRECT", "SETUP", "SET_PARAMETER", "TEARDOWN"}


def _locate(method: str, target: bytes, host: bytes | None, version: str) -> tuple[str, bytes, bytes]:
    """RFC 9112 §3.2: which form of target goes with which method, and what the effective host is."""
    authority = ""
    if host is None:
        if version == "1.1":
            raise HttpError(HTTPStatus.BAD_REQUEST, "no Host field")
    else:
        authority = check_host(host)
    if method in _NOT_OFFERED:
        raise HttpError(HTTPStatus.NOT_IMPLEMENTED, f"{method} is not offered here")
    if not target.startswith(b"/"):
        if target == b"*":
            if method != "OPTIONS":
                raise HttpError(HTTPStatus.BAD_REQUEST, "the target '*' goes with OPTIONS only")
        else:
            authority, target = _absolute(target, authority if host is not None else None)
    if b"#" in target:
        raise HttpError(HTTPStatus.BAD_REQUEST, "a fragment in the request target")
    path, _, query = target.partition(b"?")
    return authority, path, query


_locate_again = lru_cache(maxsize=2048)(_locate)


def _absolute(target: bytes, host: str | None) -> tuple[str, bytes]:
    """Read an absolute-form target: its authority is the host, and the Host field must agree (RFC 9112 §3.2.2)."""
    found = _SCHEME.fullmatch(target)
    if found is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "a malformed request target")
    authority = check_host(found[2])
    if host is not None and host != authority:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the Host field and the request target disagree")
    path = found[3]
    return authority, path if path.startswith(b"/") else b"/" + path


@lru_cache(maxsize=1024)
def check_host(value: bytes) -> str:
    """Return a Host value in lower case; raises HttpError 400 when it is malformed or empty."""
    text = value.strip(b" \t")
    if _HOST.fullmatch(text) is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "a malformed Host field")
    return text.decode("ascii").lower()
