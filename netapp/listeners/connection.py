"""One accepted connection, from its first byte to the line in the log that says how it ended.

A :class:`Connection` is the transport's protocol for the whole of its life, but it is not in the way: its
``dataReceived`` *is* the bound method of whoever reads at the moment, so after the hand-over the transport calls the
inner protocol directly, and that one writes to the real transport. Only the rare events come through here: connected,
half-closed, lost.

The stages before the hand-over (PROXY protocol, detection, TLS) are in :mod:`netapp.listeners.stages`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, Draining, End, LimitExceeded, Rejected, classify
from netapp.listeners.stages import begin
from netapp.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProtocolFactory

    from netapp.listeners.service import Listener
    from netapp.peer import Peer

_log = Logger("netapp.connection")

LAST_WORD = 20.0
"""Seconds that an idle connection has to take what is still unsent before it is cut."""


def _ignore(data: bytes) -> None:
    """What is received after a connection has been given up."""


@implementer(IProtocol, IHalfCloseableProtocol)
class Connection:
    """The listener's hold on one connection."""

    __slots__ = (
        "_inner",
        "_lower",
        "_moved",
        "_moved_at",
        "_peer_closed",
        "_stage",
        "_tls",
        "dataReceived",
        "deadline",
        "ending",
        "key",
        "kind",
        "listener",
        "peer",
        "slot",
        "socket_transport",
        "started",
        "state_name",
        "transport",
    )

    def __init__(self, listener: Listener, peer: Peer, key: str) -> None:
        self.listener = listener
        self.peer = peer
        self.key = key
        self.kind = ""
        self.started = 0.0
        self.ending: BaseException | None = None
        self.state_name = "opening"
        self.dataReceived: Callable[[bytes], None] = _ignore
        self.deadline = NEVER
        self.slot = 0
        self.transport: Any = None
        self.socket_transport: Any = None
        self._inner: Any = None
        self._lower: Any = None
        self._stage: Any = None
        self._tls: Any = None
        self._moved = 0
        self._peer_closed = False
        self._moved_at = 0.0

    # -- stages

    def makeConnection(self, transport: Any) -> None:
        """Begin with the first stage that the listener has."""
        self.transport = self.socket_transport = transport
        self.started = self.listener.timers.now()
        self.listener.opened(self)
        begin(self)

    def connectionMade(self) -> None:
        """Nothing: makeConnection, which calls it in other protocols, has done it."""

    def read_with(self, stage: Any, timeout: float) -> None:
        """Let ``stage`` read, for at most ``timeout`` seconds."""
        self._stage = stage
        self.state_name = stage.name
        if self._tls is None:
            self._lower = stage
            self.dataReceived = stage.dataReceived
        else:
            self._tls.wrappedProtocol = stage
        timers = self.listener.timers
        timers.arm(self, timers.now() + timeout)

    def use_tls(self, tls: Any) -> None:
        """Put Twisted's TLS between the socket and whoever comes next."""
        self._tls = self._lower = self.transport = tls
        self.dataReceived = tls.dataReceived

    def hand_over(self, kind: str, factory: IProtocolFactory, data: bytes = b"") -> None:
        """Build the inner protocol, connect it, and give it what was read ahead; its defects end this connection."""
        self.kind = kind
        try:
            protocol = cast("Any", factory.buildProtocol(self.listener.client_address(self)))
            if protocol is None:
                self.close(Rejected("factory", "the factory declined the connection"))
                return
            if (set_peer := getattr(protocol, "set_peer", None)) is not None:
                set_peer(self.peer)
            self._take(protocol)
            protocol.makeConnection(self.transport)
            if self.listener.winding_down:
                self.wind_down()
            if data:
                protocol.dataReceived(data)
        except Exception as defect:  # noqa: BLE001 - somebody else's code: it costs this connection only
            _log.failure("{peer}: {kind} failed to start", peer=self.peer, kind=kind)
            self.close(defect)

    def _take(self, protocol: Any) -> None:
        self._inner = protocol
        self._stage = None
        self.state_name = "open"
        if self._tls is not None:
            self._tls.wrappedProtocol = protocol
        else:
            self._lower = protocol
            self.dataReceived = protocol.dataReceived
        listener = self.listener
        if listener.idle_timeout:
            self._moved_at = listener.timers.now()
            listener.timers.arm(self, self._moved_at + listener.idle_timeout / 4)
        else:
            listener.timers.disarm(self)

    def replace(self, protocol: Any) -> None:
        """Deliver to ``protocol`` from now on (see :func:`netapp.protocols.handover.replace_protocol`)."""
        self._take(protocol)

    # -- what the transport tells

    def readConnectionLost(self) -> None:
        """The peer closed its side. Who does not want to know treats it as the end, as Twisted's transports do."""
        inner = self._lower
        self._peer_closed = not getattr(self.socket_transport, "closed_here", False)
        if IHalfCloseableProtocol.providedBy(inner):
            try:
                inner.readConnectionLost()
            except Exception as defect:  # noqa: BLE001 - as above
                _log.failure("{peer}: readConnectionLost failed", peer=self.peer)
                self.close(defect)
            return
        self.socket_transport.connectionLost(Failure(ConnectionDone()))

    def writeConnectionLost(self) -> None:
        """Our side is closed."""
        if IHalfCloseableProtocol.providedBy(self._lower):
            self._lower.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever read last, say how it ended, and give everything back: once."""
        listener = self.listener
        listener.timers.disarm(self)
        inner = self.protocol  # before TLS lets go of it
        defect: BaseException | None = None
        if self._lower is not None:
            try:
                self._lower.connectionLost(reason)
            except Exception as problem:  # noqa: BLE001 - as above
                _log.failure("{peer}: connectionLost failed", peer=self.peer)
                defect = problem
        declared = defect or self.ending or getattr(inner, "ending", None)
        if declared is None and not isinstance(reason.value, ConnectionDone):
            declared = getattr(self.socket_transport, "error", None)
        end = classify(cast("BaseException", reason.value), declared)
        closed_here = getattr(self.socket_transport, "closed_here", False)
        if end is End.PEER_DONE and closed_here and not self._peer_closed:
            end = End.LOCAL_DONE
        self.dataReceived = _ignore
        listener.closed(self, end, declared or reason.value)
        self._lower = self._tls = None

    # -- deadlines, draining, looking at it

    def expired(self, now: float) -> None:
        """A stage took too long, or nothing has moved in either direction for the idle time."""
        if self.ending is not None:
            self.socket_transport.abortConnection()  # it was told to close, and the peer does not let it
            return
        if self._inner is None:
            self._stage.expire()
            return
        # Bytes are counted anyway, so looking at the counts now and then costs nothing on the path of the bytes. The
        # price is precision: idleness is noticed up to a quarter of the time late.
        moved = self.bytes_in + self.bytes_out
        limit = self.listener.idle_timeout
        if moved != self._moved:
            self._moved = moved
            self._moved_at = now
        elif now - self._moved_at >= limit:
            self.ending = DeadlineExceeded("idle_timeout")
            self.transport.loseConnection()
            limit = LAST_WORD
        self.listener.timers.arm(self, now + limit / 4)

    def close(self, why: BaseException) -> None:
        """End the connection at once; ``why`` decides how it is counted."""
        self.ending = why
        self.dataReceived = _ignore
        self.socket_transport.abortConnection()

    def cut(self) -> None:
        """End the connection at once because the server ends, whatever is under way."""
        self.close(Draining("cut: it did not finish in time"))

    def refuse(self, rule: str) -> None:
        """End a connection whose client, once known, is not admitted."""
        self.close(LimitExceeded(rule))

    def wind_down(self) -> None:
        """The server will stop: let the protocol say so with its next answer, if it knows how."""
        self._call("wind_down")

    def drain(self) -> None:
        """Let the protocol finish what is under way and close. One that is not there yet has nothing under way."""
        if self._inner is None:
            self.close(Draining())
        else:
            self._call("drain")

    def _call(self, hook: str) -> None:
        method = getattr(self.protocol, hook, None)
        if method is None:
            return
        try:
            method()
        except Exception as defect:  # noqa: BLE001 - as above
            _log.failure("{peer}: {hook} failed", peer=self.peer, hook=hook)
            self.close(defect)

    @property
    def protocol(self) -> Any:
        """The inner protocol, or None before the hand-over."""
        if self._tls is not None and self._inner is not None:
            return self._tls.wrappedProtocol  # an upgrade replaces it there
        return self._inner

    @property
    def state(self) -> str:
        """One word: a stage's name, then what the protocol says of itself."""
        inner = self.protocol
        return self.state_name if inner is None else str(getattr(inner, "state", self.state_name))

    @property
    def bytes_in(self) -> int:
        """Bytes received over the wire."""
        return int(getattr(self.socket_transport, "bytes_in", 0))

    @property
    def bytes_out(self) -> int:
        """Bytes sent over the wire."""
        return int(getattr(self.socket_transport, "bytes_out", 0))

    def as_dict(self, now: float) -> dict[str, object]:
        """Describe the connection for ``/connections``; ages are seconds, sizes bytes."""
        return {
            "id": self.peer.id,
            "listener": self.peer.listener,
            "peer": str(self.peer),
            "proxy": self.peer.proxy or None,
            "protocol": self.kind,
            "tls": self.peer.tls.version if self.peer.tls is not None else None,
            "state": self.state,
            "age": round(now - self.started, 3),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
