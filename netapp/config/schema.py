"""Everything that can be configured, as frozen structs.

What belongs to one part of netapp is defined there, as its policy; this module only composes. The text below each
field is its entry in the configuration reference.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import DetectPolicy
from netapp.listeners.proxyproto import ProxyPolicy
from netapp.listeners.tls import TlsPolicy
from netapp.monitor.blocks import LoopPolicy
from netapp.protocols.calculator import CalculatorPolicy
from netapp.protocols.http1.policy import HttpPolicy
from netapp.protocols.websocket.policy import WebSocketPolicy
from netapp.telemetry.health import HealthPolicy
from netapp.units import Duration, Endpoint, Secret, Size

LogLevel = Literal["debug", "info", "warn", "error"]

ListenerName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}$(?!\n)",
        description="a name of letters, digits, '_' and '-', which logs and metrics can carry",
    ),
]

KINDS: Final = ("calculator", "detect", "echo", "http")
"""The built-in kinds of listener."""


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process as a whole."""

    name: Annotated[str, Meta(min_length=1)] = "netapp"
    """What this server calls itself in logs and on the admin pages."""
    drain_delay: Duration = 1.0
    """After the signal to stop, how long to go on as before with readiness off, so that load balancers see it first."""
    drain_timeout: Duration = 30.0
    """How long connections then have to finish what they do; what is left is cut and named in the log (Envoy, Caddy
    and HAProxy have the same phase; 30 s is also what Kubernetes grants)."""


class LoggingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, where and how."""

    level: LogLevel = "info"
    """Events below this level are dropped."""
    format: Literal["text", "json"] = "text"
    """Lines for people, or one JSON object a line for machines."""
    levels: dict[str, LogLevel] = {}
    """Levels of single namespaces, such as ``"netapp.listeners" = "debug"``; the longest prefix counts."""
    file: str = ""
    """A file to write to, opened again on SIGHUP; empty for standard output."""
    flood_limit: Annotated[int, Meta(ge=0)] = 20
    """Events a second of one kind that are written in full; of more, only a sample and their number. 0 for no limit."""


class AdminConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The admin listener: health, metrics, connections, drain."""

    enabled: bool = True
    """Whether there is an admin listener."""
    endpoint: Endpoint = "tcp:9090:interface=127.0.0.1"
    """Where it listens. An endpoint that is neither loopback nor a UNIX socket needs a token."""
    metrics: bool = True
    """Whether it serves ``/metrics``."""
    token: Secret = ""
    """The bearer token that requests have to carry; empty for none."""
    token_file: str = ""
    """A file with the token, instead of ``token``; surrounding white space is ignored."""

    def __post_init__(self) -> None:
        """Refuse two tokens, of which one would silently not count."""
        if self.token and self.token_file:
            raise ValueError("expected token or token_file, not both")


class DetectConfig(DetectPolicy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several protocols on one port, told apart by a connection's first bytes."""

    protocols: dict[str, str] = field(default_factory=dict)
    """Detectors, in the order in which they are asked, and what each leads to: the name of another listener, whose
    kind and limits then hold; where none is called so, a kind, with the limits of this listener; or ``tls``, which
    begins TLS by this listener's ``tls`` table and then asks again."""
    fallback: str = ""
    """What everything else leads to, by the same names; empty to close such connections."""

    def __post_init__(self) -> None:
        """Refuse a table that leads nowhere."""
        super().__post_init__()
        if not (self.protocols or self.fallback):
            raise ValueError("detection needs protocols or a fallback")


class HttpConfig(HttpPolicy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """HTTP on one listener: the protocol's limits, and what every request passes through."""

    deadline: Duration = 15.0
    """How long a responder that has to be waited for may take before it is cancelled and answered with 504
    (Envoy's route timeout: 15 s); 0 for no limit."""
    access_log: bool = False
    """Log every finished request. Off, because the metrics count them at a hundredth of the price."""
    trust_request_id: bool = False
    """Take over the ``X-Request-ID`` of a request instead of making one; only where every client is a proxy of
    yours."""


class ListenerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One port, and what is served there."""

    kind: Annotated[
        str,
        Meta(min_length=1, description=f"one of {', '.join(KINDS)}, or a factory as 'package.module:Factory'"),
    ]
    """What is served: ``http`` (with WebSocket), ``echo``, ``calculator``, ``detect`` (several on one port), or a
    factory of your own as ``"package.module:Factory"``."""
    endpoint: Endpoint
    """Where it listens: any Twisted server endpoint."""
    options: dict[str, Any] = {}
    """Handed to a factory of your own as keyword arguments; the built-in kinds have none."""
    admission: AdmissionPolicy = AdmissionPolicy()
    proxy_protocol: ProxyPolicy | None = None
    tls: TlsPolicy | None = None
    detect: DetectConfig | None = None
    idle_timeout: Duration = 300.0
    """How long a connection may carry nothing in either direction; 0 for no limit. It is below the 350 s after which
    load balancers in front forget an idle connection (AWS Network Load Balancer). HTTP has shorter ones of its own."""
    write_timeout: Duration = 60.0
    """How long a peer may take nothing of what waits for it before it is cut (nginx's ``send_timeout``); 0 for no
    limit."""
    write_buffer: Size = 1024 * 1024
    """What may wait for a peer before whoever produces it is paused."""
    http: HttpConfig = HttpConfig()
    websocket: WebSocketPolicy = WebSocketPolicy()
    calculator: CalculatorPolicy = CalculatorPolicy()


DEFAULT_LISTENERS: Final[dict[str, dict[str, str]]] = {
    "web": {"kind": "http", "endpoint": "tcp:8080:interface=127.0.0.1"},
    "calculator": {"kind": "calculator", "endpoint": "tcp:7777:interface=127.0.0.1"},
    "echo": {"kind": "echo", "endpoint": "tcp:7007:interface=127.0.0.1"},
}
"""What is served where nothing is configured: each on loopback only."""


def default_listeners() -> dict[str, ListenerConfig]:
    """Build the listeners that there are where nothing is configured."""
    return {
        name: ListenerConfig(kind=given["kind"], endpoint=given["endpoint"])
        for name, given in DEFAULT_LISTENERS.items()
    }


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    server: ServerConfig = ServerConfig()
    logging: LoggingConfig = LoggingConfig()
    admin: AdminConfig = AdminConfig()
    health: HealthPolicy = HealthPolicy()
    monitor: LoopPolicy = LoopPolicy()
    listeners: dict[ListenerName, ListenerConfig] = field(default_factory=default_listeners)
    """Listeners by name. A file that has this table replaces the default ones, all of them."""
