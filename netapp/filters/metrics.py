"""How many requests there were, how they ended, and how long they took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from netapp.http.message import Request
    from netapp.http.responder import Answer, Filter, Responder
    from netapp.telemetry.metrics import Counter, Histogram, Registry

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""The methods that are counted by name (RFC 9110 §9 and RFC 5789); any other one is ``other``."""

UNMATCHED = "unmatched"
"""The route of a request that no route matched."""


class _Outcomes:
    """The instruments of each route, method and status, made when there is the first such request."""

    def __init__(self, registry: Registry, listener: str) -> None:
        self.known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._listener = listener
        self._requests = registry.counter(
            "netapp_http_requests_total",
            "Requests that are over, by route, method and status; status 0: the client left before any answer.",
            ("listener", "route", "method", "status"),
        )
        self._durations = registry.histogram(
            "netapp_http_request_seconds",
            "Time from a request's complete header section to the end of its response.",
            ("listener", "route"),
        )

    def find(self, key: tuple[str, str, int]) -> tuple[Counter, Histogram]:
        """Make the instruments of an outcome that is not known yet."""
        route, method, status = key
        bounded = method if method in METHODS else "other"
        pair = (
            self._requests.child(self._listener, route or UNMATCHED, bounded, str(int(status))),
            self._durations.child(self._listener, route or UNMATCHED),
        )
        if bounded == method:  # what clients make up is not remembered
            self.known[key] = pair
        return pair


def request_metrics(registry: Registry, listener: str, now: Callable[[], float] = time.monotonic) -> Filter:
    """Count every request of ``listener`` in ``registry``.

    - ``netapp_http_requests_total{listener,route,method,status}``; status 0 is a client that left before any answer;
    - ``netapp_http_request_seconds{listener,route}``, from the complete header section to the end of the response;
    - ``netapp_http_requests_in_flight{listener}``;
    - ``netapp_http_response_bytes_total{listener}``, content alone.

    The labels are bounded whatever clients send: ``route`` is a pattern of the router and never a path, and methods
    that are not registered share one value. ``now`` is the monotonic clock, in seconds, that ``Request.started`` is
    read from.
    """
    outcomes = _Outcomes(registry, listener)
    known = outcomes.known
    in_flight = registry.gauge(
        "netapp_http_requests_in_flight", "Requests that were begun and are not over.", ("listener",)
    ).child(listener)
    sent_bytes = registry.counter(
        "netapp_http_response_bytes_total", "Content of responses that was sent, in bytes.", ("listener",)
    ).child(listener)

    def finished(request: Request, status: int, sent: int, _: BaseException | None) -> None:
        in_flight.value -= 1
        sent_bytes.value += sent
        key = (request.route, request.method, status)
        try:
            counter, histogram = known[key]
        except KeyError:
            counter, histogram = outcomes.find(key)
        counter.value += 1
        histogram.observe(now() - request.started)

    def around(responder: Responder) -> Responder:
        def answer(request: Request) -> Answer:
            in_flight.value += 1
            request.on_finish(finished)
            return responder(request)

        return answer

    return around
