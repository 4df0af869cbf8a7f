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
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, Draining, End, LimitExceeded, Rejected, classify
from netapp.listeners.stages import begin, tls_verdict
from netapp.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProtocolFactory

    from netapp.listeners.service import Listener
    from netapp.peer import Peer

_log = Logger("netapp.connection")

CLOSED = "closed"
LAST_WORD = 5.0
"""Seconds that an idle connection has to take what is still unsent before it is cut."""


def _ignore(data: object) -> None:
    """What is received after a connection has been given up."""


def _asked(protocol: Any, attribute: str) -> Any:
    """Ask a protocol for what it may not have, or fail to say."""
    try:
        return getattr(protocol, attribute, None)
    except Exception:  # noqa: BLE001 - a property of somebody else's
        _log.failure("{protocol} failed to tell its {attribute}", protocol=protocol, attribute=attribute)
        return None


def _ending_of(protocol: Any) -> BaseException | None:
    """Return what a protocol declares as its ending, unless it means something else by the word."""
    ending = _asked(protocol, "ending")
    return ending if isinstance(ending, BaseException) else None


@implementer(IProtocol, IHalfCloseableProtocol)
class Connection:
    """The listener's hold on one connection."""

    __slots__ = (
        "_inner",
        "_lower",
        "_moved",
        "_moved_at",
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
        self._moved_at = 0.0

    # -- stages

    def makeConnection(self, transport: Any) -> None:
        """Begin with the first stage that the listener has."""
        self.transport = self.socket_transport = transport
        if hasattr(transport, "owner"):
            transport.owner = self
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
            if self._tls is not None and IHandshakeListener.providedBy(protocol):
                protocol.handshakeCompleted()
            if self.listener.winding_down:
                self.wind_down()
            if data and not self.transport.disconnecting:
                self._deliver(protocol, data)
            if self.listener.draining:
                self.drain()
        except Exception as defect:  # noqa: BLE001 - somebody else's code: it costs this connection only
            _log.failure("{peer}: {kind} failed to start", peer=self.peer, kind=kind)
            self.close(defect)

    def _deliver(self, protocol: Any, data: bytes) -> None:
        """Give what was read ahead to a protocol that may have paused reading."""
        # Within TLS there may be more behind it, which Twisted delivers at once: holding this would turn the order.
        hold = getattr(self.socket_transport, "hold", None) if self._tls is None else None
        if hold is None or not hold(lambda: protocol.dataReceived(data)):
            protocol.dataReceived(data)

    def _take(self, protocol: Any) -> None:
        self._inner = protocol
        self._stage = None
        self.state_name = "open"
        if self._tls is not None:
            self._tls.wrappedProtocol = protocol
        else:
            self._lower = protocol
            self.dataReceived = protocol.dataReceived
            transport = self.socket_transport
            if getattr(transport, "owner", None) is self and transport.protocol is self:
                # One of ours: it calls the protocol itself, wherever that wants its bytes now, and lose() in the end.
                transport.protocol = protocol
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
        """Pass it on; see :meth:`lose`."""
        self.lose(reason, _ignore if self._lower is None else self._lower.connectionLost)

    def lose(self, reason: Failure, tell: Callable[[Failure], None]) -> None:
        """Have ``tell`` tell whoever reads that this is the end, say how it ended, and give everything back: once.

        A transport of ours asks for this itself, because by now its protocol may be one that somebody has put there.
        """
        listener, transport, inner, tls = self.listener, self.socket_transport, self.protocol, self._tls_layer
        listener.timers.disarm(self)
        done = isinstance(reason.value, ConnectionDone)
        here = bool(getattr(transport, "closed_here", False) if tls is None else tls.disconnecting)
        verdict = None if tls is None else tls_verdict(tls, truncates=done)
        if tls is not None:
            tls._aborted = True  # noqa: SLF001 - what it holds is not for a protocol that has failed, paused or left
        defect: BaseException | None = None
        try:
            tell(reason)
        except Exception as problem:  # noqa: BLE001 - as above
            _log.failure("{peer}: connectionLost failed", peer=self.peer)
            defect = problem
        if self.state_name == CLOSED:
            return  # the transport told us, and we have told the others
        declared = defect or self.ending or _ending_of(inner) or verdict or getattr(transport, "error", None)
        end = classify(cast("BaseException", reason.value), declared)
        if end is End.PEER_DONE and here and (tls is not None or not getattr(transport, "peer_closed", False)):
            end = End.LOCAL_DONE
        self.dataReceived = _ignore
        listener.closed(self, end, declared or reason.value)
        self.state_name = CLOSED
        self._lower = self._tls = None

    # -- deadlines, draining, looking at it

    def expired(self, now: float) -> None:
        """A stage took too long, or nothing has moved in either direction for the idle time."""
        if self.ending is not None:
            self.socket_transport.abortConnection()  # it was told to close, and the peer does not let it
            return
        if self._inner is None:
            self._expire_stage()
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
            self.listener.timers.arm(self, now + LAST_WORD)
            self.transport.loseConnection()
            return
        self.listener.timers.arm(self, now + limit / 4)

    def _expire_stage(self) -> None:
        try:
            self._stage.expire()
        except Exception as defect:  # noqa: BLE001 - as above
            _log.failure("{peer}: the {stage} stage failed", peer=self.peer, stage=self.state_name)
            self.close(defect)

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
        """Let the protocol finish what is under way and close. One that is not there yet is told when it is."""
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
        """The inner protocol, or None before the hand-over; whoever it is by now, for an upgrade replaces it."""
        if self._inner is None:
            return None
        reader: Any = self._tls_layer or getattr(self.socket_transport, "protocol", None)
        if isinstance(reader, TLSMemoryBIOProtocol):
            reader = reader.wrappedProtocol
        return self._inner if reader is None or reader is self else reader

    @property
    def _tls_layer(self) -> TLSMemoryBIOProtocol | None:
        """TLS, whether it is the listener's or the protocol has started it."""
        layer = self._tls or getattr(self.socket_transport, "protocol", None)
        return layer if isinstance(layer, TLSMemoryBIOProtocol) else None

    @property
    def state(self) -> str:
        """One word: a stage's name, then what the protocol says of itself."""
        return str(_asked(self.protocol, "state") or self.state_name)

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
