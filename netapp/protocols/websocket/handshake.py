"""What a request for a WebSocket means (RFC 6455 §4.2.1). Pure."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from netapp.http.errors import HttpError

if TYPE_CHECKING:
    from netapp.http.message import Request
    from netapp.protocols.websocket.policy import WebSocketPolicy

VERSION: Final = "13"

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # sixteen bytes in base64
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class Handshake(NamedTuple):
    """A client's opening handshake that has been found good.

    ``subprotocol`` is the chosen one, and ``extensions`` what the client offers, as one list.
    """

    key: str
    subprotocol: str | None
    extensions: str


def read_handshake(request: Request, policy: WebSocketPolicy) -> Handshake:
    """Check a client's handshake.

    Raises HttpError: 426 for a request that asks for no WebSocket, or for another version of it (RFC 9110 §15.5.22,
    RFC 6455 §4.4), 400 for a malformed one, 403 for an origin that may not connect (RFC 6455 §4.2.2).
    """
    headers = request.headers
    if not _asks_for_websocket(request):
        raise HttpError(HTTPStatus.UPGRADE_REQUIRED, "only WebSocket is spoken here", [("Upgrade", "websocket")])
    if request.method != "GET":
        raise HttpError(HTTPStatus.BAD_REQUEST, "a WebSocket handshake is a GET request")
    if "transfer-encoding" in headers or (headers.get("content-length") or "0") != "0":
        raise HttpError(HTTPStatus.BAD_REQUEST, "a WebSocket handshake has no content")
    if headers.get_all("sec-websocket-version") != [VERSION]:
        fields = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)]
        raise HttpError(HTTPStatus.UPGRADE_REQUIRED, f"the version of WebSocket spoken here is {VERSION}", fields)
    keys = headers.get_all("sec-websocket-key")
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise HttpError(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key must be sixteen bytes in base64")
    _check_origin(request, policy)
    return Handshake(keys[0], _choose(request, policy), ", ".join(headers.get_all("sec-websocket-extensions")))


def _asks_for_websocket(request: Request) -> bool:
    # RFC 9110 §7.8: Upgrade counts in HTTP/1.1 only, and only where Connection names it
    headers = request.headers
    return (
        request.protocol == "HTTP/1.1"
        and "websocket" in headers.tokens("upgrade")
        and "upgrade" in headers.tokens("connection")
    )


def _check_origin(request: Request, policy: WebSocketPolicy) -> None:
    """Keep other sites' pages from using the cookies of their visitors here: browsers do not, for WebSocket."""
    origins = request.headers.get_all("origin")
    if not origins:
        return
    if len(origins) != 1:
        raise HttpError(HTTPStatus.BAD_REQUEST, "more than one Origin field")
    origin = origins[0].lower()
    if policy.origins:
        allowed = any(known == "*" or known.lower() == origin for known in policy.origins)
    else:
        allowed = _same_origin(origin, request)
    if not allowed:
        raise HttpError(HTTPStatus.FORBIDDEN, "this origin may not connect")


def _same_origin(origin: str, request: Request) -> bool:
    """Compare with the host that was asked for.

    The scheme is compared only when we know that ours is https: a proxy before us may have undone the TLS.
    """
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None or (request.scheme == "https" and scheme != "https"):
        return False
    return authority.removesuffix(port) == request.host.removesuffix(port)


def _choose(request: Request, policy: WebSocketPolicy) -> str | None:
    """Return the first of the client's subprotocols that is spoken here; they are case-sensitive."""
    for field in request.headers.get_all("sec-websocket-protocol"):
        for name in field.split(","):
            if name.strip(" \t") in policy.subprotocols:
                return name.strip(" \t")
    return None
