"""What a listener counts."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netapp.errors import End
    from netapp.listeners.connection import Connection
    from netapp.telemetry.metrics import Registry

CONNECTION_BUCKETS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
"""Seconds: connections live from a health check's blink to hours."""


class ListenerMetrics:
    """The instruments of one listener; each name has the listener as its first label."""

    def __init__(self, registry: Registry, name: str) -> None:
        self._name = name
        self.opened = registry.counter(
            "netapp_connections_opened_total", "Connections that were admitted.", ("listener",)
        ).child(name)
        self._ended = registry.counter(
            "netapp_connections_ended_total", "Connections that have ended, by how.", ("listener", "end")
        )
        self._open = registry.gauge("netapp_connections_open", "Connections open now.", ("listener",)).child(name)
        self._refused = registry.counter(
            "netapp_connections_refused_total", "Connections refused at the door, by rule.", ("listener", "rule")
        )
        self._would_refuse = registry.counter(
            "netapp_connections_would_refuse_total",
            "Connections that a dry run would have refused, by rule.",
            ("listener", "rule"),
        )
        self._pauses = registry.counter(
            "netapp_accept_pauses_total", "Times that accepting paused for want of a resource.", ("listener", "errno")
        )
        self._seconds = registry.histogram(
            "netapp_connection_duration_seconds", "How long connections lasted.", ("listener",), CONNECTION_BUCKETS
        ).child(name)
        received = registry.counter("netapp_received_bytes_total", "Bytes received over the wire.", ("listener",))
        sent = registry.counter("netapp_sent_bytes_total", "Bytes sent over the wire.", ("listener",))
        self._received, self._sent = received.child(name), sent.child(name)
        self._ended_in = self._ended_out = 0
        self.handshakes = registry.counter(
            "netapp_tls_handshakes_total", "TLS handshakes, by outcome.", ("listener", "outcome")
        )

    def refused(self, rule: str) -> None:
        """Count a refusal."""
        self._refused.child(self._name, rule).value += 1

    def would_refuse(self, rule: str) -> None:
        """Count a refusal that a dry run did not make."""
        self._would_refuse.child(self._name, rule).value += 1

    def accept_paused(self, error: OSError) -> None:
        """Count a pause of accepting."""
        self._pauses.child(self._name, errno.errorcode.get(error.errno or 0, "unknown")).value += 1

    def closed(self, connection: Connection, end: End, seconds: float) -> None:
        """Count the end of a connection."""
        self._ended.child(self._name, end).value += 1
        self._seconds.observe(seconds)
        self._ended_in += connection.bytes_in
        self._ended_out += connection.bytes_out

    def refresh(self, connections: Iterable[Connection]) -> None:
        """Add up what the open connections have moved so far: cheaper now than with each read and write."""
        count, received, sent = 0, self._ended_in, self._ended_out
        for connection in connections:
            count += 1
            received += connection.bytes_in
            sent += connection.bytes_out
        self._open.set(count)
        self._received.value = received
        self._sent.value = sent
