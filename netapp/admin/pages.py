"""The admin listener's pages: how a running application is looked at, and told to drain.

Who may see them follows from where they are served, which the configuration has checked:

- With a token, everything needs it but ``/livez`` and ``/readyz``: the probes of load balancers and orchestrators
  carry none, and these two tell no more than yes or no (and for readiness, why not).
- Without one, the listener is on loopback or a UNIX socket, and every local user and process may ask. A local
  *browser* is another matter, as it runs the pages of strangers: a request has to name a loopback host, or a page could
  reach this listener through a name of its own (DNS rebinding).
- With or without, a request that changes something is refused when another site's page made the browser send it.

Nothing here is ever cached.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from netapp.admin.exposition import render
from netapp.filters.answers import with_fields
from netapp.filters.guards import refuse_cross_site, require_bearer, require_local_host
from netapp.http.accept import preferred
from netapp.http.errors import HttpError
from netapp.http.message import Response
from netapp.http.responder import compose
from netapp.http.router import Router
from netapp.responders.page import base_url, entry, page
from netapp.telemetry.health import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netapp.http.message import Request
    from netapp.http.responder import Filter, Responder
    from netapp.peer import Peer
    from netapp.telemetry.health import Health, Readiness
    from netapp.telemetry.metrics import Registry

OPEN_PATHS = ("/livez", "/readyz")
"""What needs no token."""

DEFAULT_LIMIT, LARGEST_LIMIT = 1000, 10_000
"""Connections on one page: what a person can search, and what still takes the event loop only milliseconds."""

_FIELDS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class ConnectionView(Protocol):
    """One open connection."""

    @property
    def peer(self) -> Peer:
        """Whose it is, and on which listener."""

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return what a JSON encoder takes: id, peer, protocol, age, bytes, state; ``now`` is monotonic, in seconds."""


class AdminView(Protocol):
    """What the pages need to know of an application."""

    @property
    def registry(self) -> Registry:
        """Its instruments."""

    @property
    def health(self) -> Health:
        """Its checks."""

    @property
    def readiness(self) -> Readiness:
        """Whether it wants traffic."""

    @property
    def draining(self) -> bool:
        """Whether it is shutting down."""

    def connections(self) -> Iterable[ConnectionView]:
        """Return the open connections, over all listeners."""

    def redacted_config(self) -> object:
        """Return the configuration in effect, as a JSON encoder takes it, with no secret in it."""

    def drain(self) -> object:
        """Begin to shut down, in order; returns at once."""

    def now(self) -> float:
        """Return the wall clock's time, in seconds since the epoch."""


def admin_pages(view: AdminView, *, token: str = "", metrics: bool = True) -> Responder:
    """Make the whole admin listener's responder: the pages of :func:`admin_router` and who may see them.

    ``token`` is what a request has to carry, empty where the listener is on loopback or a UNIX socket.
    """
    guard = require_token(token) if token else require_local_host
    # the fields come first, so that a refusal has them too
    return compose(admin_router(view, metrics=metrics), with_fields(_FIELDS), guard)


def require_token(token: str) -> Filter:
    """Ask for this bearer token, for every page but those of :data:`OPEN_PATHS`; ValueError where it is empty."""
    return require_bearer(token, realm="netapp admin", open_paths=OPEN_PATHS)


def admin_router(view: AdminView, *, metrics: bool = True, monotonic: Callable[[], float] = time.monotonic) -> Router:
    """Route the pages, open to all: :func:`admin_pages` puts the guards in front.

    ``metrics`` says whether there is ``/metrics``; ``monotonic`` is the clock of the connections' ages.
    """
    router = Router()
    router.add("/", lambda request: _index(request, metrics=metrics))
    router.add("/livez", lambda _: Response.text("ok"))
    router.add("/readyz", lambda request: _readyz(view.readiness, request))
    router.add("/healthz", lambda _: _healthz(view))
    router.add("/connections", lambda request: _connections(view, request, monotonic()))
    router.add("/config", lambda _: Response.json(view.redacted_config()))
    router.add("/drain", lambda _: _drain(view), methods=("POST",), filters=(refuse_cross_site,))
    if metrics:
        router.add("/metrics", lambda request: _metrics(view.registry, request))
    return router


_PAGES = (
    ("/livez", "Whether the event loop turns."),
    ("/readyz", "Whether traffic is wanted, and why not."),
    ("/healthz", "How the process fares, with every check."),
    ("/metrics", "For Prometheus and OpenMetrics scrapers."),
    ("/connections", "Who is connected; ?limit= and ?listener= choose."),
    ("/config", "The configuration in effect, without its secrets."),
)


def _index(request: Request, *, metrics: bool) -> Response:
    listed = [entry(path, "GET", about, href=path) for path, about in _PAGES if metrics or path != "/metrics"]
    drain = entry(
        "/drain",
        "POST",
        "Take no more work and finish what is under way. The process stays, to be looked at.",
        f"curl -X POST {base_url(request, '127.0.0.1:9090')}/drain",
    )
    return page(
        "netapp admin", "A running netapp, seen from inside.", f"<h2>Pages</h2>\n<dl>{''.join(listed)}{drain}</dl>"
    )


def _readyz(readiness: Readiness, request: Request) -> Response:
    status = HTTPStatus.OK if readiness.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    if preferred(request.headers.get("accept") or "", "application/json", "text/plain") == "application/json":
        return Response.json(readiness.as_dict(), status)
    lines = [f"{name}: {text}" for name, text in readiness.reasons.items()]
    return Response.text("\n".join(["not ready", *lines] if lines else ["ready"]) + "\n", status)


def _healthz(view: AdminView) -> Response:
    report = view.health.report(view.now())
    unhealthy = report.status is Status.UNHEALTHY
    return Response.json(report.as_dict(), HTTPStatus.SERVICE_UNAVAILABLE if unhealthy else HTTPStatus.OK)


def _metrics(registry: Registry, request: Request) -> Response:
    content_type, text = render(registry, ", ".join(request.headers.get_all("accept")))
    return Response(200, text, [("Content-Type", content_type)])


def _connections(view: AdminView, request: Request, now: float) -> Response:
    """List up to ``limit`` connections; ``total`` counts those that are not shown as well."""
    query = dict(request.query)
    limit = _limit(query.get("limit", str(DEFAULT_LIMIT)))
    listener = query.get("listener")
    chosen = (each for each in view.connections() if listener is None or each.peer.listener == listener)
    shown = [each.as_dict(now) for each in islice(chosen, limit)]
    return Response.json({"total": len(shown) + sum(1 for _ in chosen), "connections": shown})


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_LIMIT)) and int(text) <= LARGEST_LIMIT:
        return int(text)
    raise HttpError(HTTPStatus.BAD_REQUEST, f"limit is a number from 0 to {LARGEST_LIMIT}")


def _drain(view: AdminView) -> Response:
    if not view.draining:
        view.drain()
    return Response.json({"draining": True}, HTTPStatus.ACCEPTED)
