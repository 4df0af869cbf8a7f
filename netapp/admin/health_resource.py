"""Health and readiness for a twisted.web Site of your own: ``root.putChild(b"health", HealthResource(…))``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from msgspec import json
from twisted.web.http import NOT_ALLOWED, NOT_FOUND, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource

from netapp.telemetry.health import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from netapp.telemetry.health import Health, Readiness

    Answer = tuple[int, dict[str, Any]]


class HealthResource(Resource):
    """An IResource that answers ``GET`` and ``HEAD`` with JSON, never cached.

    ``livez`` is 200 for as long as the event loop turns; ``readyz`` is 200, or 503 with the reasons; ``healthz``, and
    the resource itself, is 200 for healthy and degraded, and 503 for unhealthy, with every check. ``now`` is the wall
    clock, in seconds since the epoch.
    """

    def __init__(self, health: Health, readiness: Readiness, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._health = health
        self._readiness = readiness
        self._now = now
        self._page = _Page(self._healthz)
        self.putChild(b"", self._page)
        self.putChild(b"livez", _Page(self._livez))
        self.putChild(b"readyz", _Page(self._readyz))
        self.putChild(b"healthz", self._page)

    def getChild(self, path: bytes, request: Any) -> Resource:  # noqa: ARG002 - Twisted's signature
        """Twisted asks for a page that is not there."""
        return _Page(_missing)

    def render(self, request: Any) -> bytes:
        """Twisted asks for the resource itself."""
        return self._page.render(request)

    def _livez(self) -> Answer:
        return OK, {"status": "alive"}

    def _readyz(self) -> Answer:
        return OK if self._readiness.is_ready else SERVICE_UNAVAILABLE, self._readiness.as_dict()

    def _healthz(self) -> Answer:
        report = self._health.report(self._now())
        return SERVICE_UNAVAILABLE if report.status is Status.UNHEALTHY else OK, report.as_dict()


class _Page(Resource):
    """One leaf that asks for its answer at each request."""

    isLeaf = True

    def __init__(self, answer: Callable[[], Answer]) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Any) -> bytes:
        code, content = self._answer() if request.method in {b"GET", b"HEAD"} else _refused()
        body = json.encode(content)
        request.setResponseCode(code)
        request.setHeader(b"Content-Type", b"application/json")
        request.setHeader(b"Cache-Control", b"no-store")
        if code == NOT_ALLOWED:
            request.setHeader(b"Allow", b"GET, HEAD")
        if request.method != b"HEAD":
            return body
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b""


def _refused() -> Answer:
    return NOT_ALLOWED, {"error": "only GET and HEAD are allowed here"}


def _missing() -> Answer:
    return NOT_FOUND, {"error": "there are livez, readyz and healthz"}
