"""The WebSocket endpoint of a router."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from netapp.http.message import Request, Upgrade
from netapp.protocols.flow import default_clock
from netapp.protocols.websocket.connection import WebSocketConnection
from netapp.protocols.websocket.handshake import read_handshake
from netapp.protocols.websocket.policy import WebSocketPolicy
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from netapp.http.responder import Responder
    from netapp.protocols.websocket.service import WebSocketService

_REGISTERED = range(1000, 1016)


class Endpoint:
    """What the connections of one endpoint share."""

    def __init__(
        self, service: WebSocketService, policy: WebSocketPolicy, clock: IReactorTime, timers: Timers | None, name: str
    ) -> None:
        # autobahn takes a fifth of a second to import: who only checks a configuration need not wait for it
        from netapp.protocols.websocket.framer import framer_for  # noqa: PLC0415

        self.service = service
        self.policy = policy
        self.timers = Timers(clock) if timers is None else timers
        self.frame = framer_for(policy, clock)
        self._name = name

    def measure(self, registry: Registry) -> None:
        """Declare the instruments."""
        name = self._name
        self.connections = registry.gauge(
            "netapp_websocket_connections", "WebSocket connections open now.", ("listener",)
        ).child(name)
        messages = registry.counter(
            "netapp_websocket_messages_total", "WebSocket messages, by direction.", ("listener", "direction")
        )
        self.received, self.sent = messages.child(name, "in"), messages.child(name, "out")
        self._closed = registry.counter(
            "netapp_websocket_closed_total",
            "WebSocket connections that have ended, by close code.",
            ("listener", "code"),
        )

    def respond(self, request: Request) -> Upgrade:
        """Take a request that asks for a WebSocket; raises HttpError for any other."""
        handshake = read_handshake(request, self.policy)
        return Upgrade(partial(WebSocketConnection, self, handshake))

    def closed(self, code: int) -> None:
        """Count the end of a connection. Codes that anybody may make up are counted by their thousand."""
        self.connections.value -= 1
        label = str(code) if code in _REGISTERED else f"{code // 1000}xxx"
        self._closed.child(self._name, label).value += 1


def websocket_responder(
    service: WebSocketService,
    policy: WebSocketPolicy | None = None,
    *,
    clock: IReactorTime | None = None,
    timers: Timers | None = None,
    registry: Registry | None = None,
    name: str = "http",
) -> Responder:
    """Return a responder that connects every WebSocket to ``service``.

    ``clock`` defaults to the global reactor; ``timers``, ``registry`` and ``name`` (the listener's, for metrics) come
    from a netapp application. A request that asks for no WebSocket is answered with 426, a malformed one with 400, and
    one from an origin that may not connect with 403.
    """
    endpoint = Endpoint(service, policy or WebSocketPolicy(), clock or default_clock(), timers, name)
    endpoint.measure(registry or Registry())
    return endpoint.respond
