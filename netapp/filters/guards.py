"""Who may ask: a bearer token, and two defences against a browser that acts for somebody else."""

from __future__ import annotations

from hmac import compare_digest
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING

from netapp.http.errors import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netapp.http.message import Request
    from netapp.http.responder import Answer, Filter, Responder

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})


def require_bearer(token: str, *, realm: str = "netapp", open_paths: Iterable[str] = ()) -> Filter:
    """Let only requests through that carry ``Authorization: Bearer <token>`` (RFC 6750 §2.1).

    Any other gets 401 with the challenge. ``open_paths`` need no token when they are asked for in exactly this
    spelling. The comparison takes the same time wherever the tokens differ. ValueError for an empty token, which
    would let everybody in.
    """
    if not token:
        raise ValueError("an empty token would let everybody in")
    expected = token.encode()
    exempt = frozenset(path.encode() for path in open_paths)
    missing = HttpError(401, "a bearer token is needed", [("WWW-Authenticate", f'Bearer realm="{realm}"')])
    # RFC 6750 §3.1: no error code for a client that did not know of the token
    wrong = HttpError(
        401, "this is not the token", [("WWW-Authenticate", f'Bearer realm="{realm}", error="invalid_token"')]
    )

    def around(responder: Responder) -> Responder:
        def answer(request: Request) -> Answer:
            if request.raw_path not in exempt:
                given = _bearer(request)
                if given is None:
                    raise missing
                if not compare_digest(given, expected):
                    raise wrong
            return responder(request)

        return answer

    return around


def _bearer(request: Request) -> bytes | None:
    fields = [value for name, value in request.headers.raw if name == b"authorization"]
    if len(fields) != 1:
        return None
    scheme, _, credentials = fields[0].partition(b" ")
    return credentials.strip(b" ") if scheme.lower() == b"bearer" else None


def refuse_cross_site(responder: Responder) -> Responder:
    """Refuse, with 403, a request that changes something and that a page of another site made a browser send.

    Every current browser says where a request comes from in Sec-Fetch-Site, which no page can forge
    (https://www.w3.org/TR/fetch-metadata/), and older ones send Origin with every POST (RFC 6454 §7). A client that
    sends neither is no browser and acts for its own user.
    """

    def answer(request: Request) -> Answer:
        if request.method not in _SAFE and not _is_own_site(request):
            raise HttpError(HTTPStatus.FORBIDDEN, "a page of another site may not ask for this")
        return responder(request)

    return answer


def _is_own_site(request: Request) -> bool:
    sites = request.headers.get_all("sec-fetch-site")
    if sites:
        return _OWN_SITE.issuperset(sites)
    origins = request.headers.get_all("origin")
    return all(origin.lower() == f"{request.scheme}://{request.host}" for origin in origins)


def require_local_host(responder: Responder) -> Responder:
    """Refuse, with 403, a request for a host that is not this machine's loopback.

    A page of evil.example may let its name resolve to 127.0.0.1 and then read, as its own origin, what listens there
    (DNS rebinding). The browser still names evil.example as the host, which gives it away. Requests that name no host
    (HTTP/1.0) or that came over a UNIX socket pass, because no browser sends them.
    """

    def answer(request: Request) -> Answer:
        if request.host and request.peer.host and not is_loopback(request.host):
            raise HttpError(HTTPStatus.FORBIDDEN, "without a token, this is served to localhost by that name only")
        return responder(request)

    return answer


def is_loopback(authority: str) -> bool:
    """Say whether a host, with or without a port, is localhost, below it (RFC 6761 §6.3) or a loopback address."""
    host = authority if authority.endswith("]") else authority.rsplit(":", 1)[0]
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
