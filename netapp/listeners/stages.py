"""What a connection goes through before its protocol: PROXY protocol, detection, TLS, detection within TLS.

The order is fixed, and each step has its reason. The PROXY header comes first because the proxy writes it before
anything of the client's, outside TLS. TLS comes before detection where the listener speaks nothing else; where it
speaks both, the first bytes tell which. Inside TLS the protocol is detected once more, because one port may carry
several under the same certificate.

A stage reads (``dataReceived``), may end by a deadline (``expire``), and calls the next one with what it has read too
much. It is gone afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.protocols.tls import BufferingTLSTransport
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, NetappError, PeerAborted, ProtocolViolation
from netapp.listeners.proxyproto import ProxyParser
from netapp.listeners.tls import tls_info

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol
    from twisted.python.failure import Failure

    from netapp.listeners.connection import Connection
    from netapp.listeners.proxyproto import ProxyHeader, ProxyPolicy

TLS_ROUTE = "tls"
"""The detector whose protocol is not served but unwrapped."""


def begin(connection: Connection) -> None:
    """Start the first stage that the listener has."""
    proxy = connection.listener.proxy
    if proxy is not None and connection.peer.proxy:
        connection.read_with(ProxyStage(connection, proxy), proxy.timeout)
    else:
        after_proxy(connection, b"")


def after_proxy(connection: Connection, data: bytes) -> None:
    """The client is known: tell TLS from the rest, if need be."""
    listener = connection.listener
    if listener.detection is not None and listener.detects_tls:
        DetectStage(connection).start(data)
    elif listener.context is not None:
        start_tls(connection, data)
    else:
        after_tls(connection, data)


def start_tls(connection: Connection, data: bytes) -> None:
    """Put TLS on the connection and begin the handshake."""
    listener = connection.listener
    stage = TlsStage(connection)
    tls = listener.make_tls(stage)
    connection.use_tls(tls)
    connection.read_with(stage, listener.handshake_timeout)
    tls.makeConnection(connection.socket_transport)
    if data:
        tls.dataReceived(data)


def after_tls(connection: Connection, data: bytes) -> None:
    """Whatever is spoken now is the protocol itself."""
    listener = connection.listener
    if listener.detection is not None:
        DetectStage(connection).start(data)
    else:
        connection.hand_over(listener.kind, listener.factory, data)


class Tls(BufferingTLSTransport):
    """Twisted's TLS, held to what Twisted's TCP does by itself: a goodbye has its time, and a pause is one."""

    def loseConnection(self) -> None:
        """Say goodbye, and wait for the peer's no longer than the transport does."""
        super().loseConnection()
        if (await_goodbye := getattr(self.transport, "await_goodbye", None)) is not None:
            await_goodbye()

    def unregisterProducer(self) -> None:
        """Let go of the producer, but not of its last bytes, which Twisted drops when the close waits for them."""
        self._aggregator.flush()
        super().unregisterProducer()

    def _flushReceiveBIO(self) -> None:
        # Where the protocol has paused the socket, what is decrypted already would reach it nevertheless.
        hold = getattr(self.transport, "hold", None)
        if hold is None or not hold(self._flushReceiveBIO):
            super()._flushReceiveBIO()
        else:
            self._flushSendBIO()


def tls_verdict(tls: TLSMemoryBIOProtocol, *, truncates: bool) -> BaseException | None:
    """Say how the peer broke TLS; None where it did not. To be asked while ``tls`` is still whole.

    With ``truncates`` the connection is ending in order, and a peer that has not said goodbye first has cut off the
    session (RFC 8446 §6.1); unless it was we who began to close.
    """
    problem = tls._reason  # noqa: SLF001 - it tells the protocol only
    if problem is not None and _is_openssl(problem.value):
        return ProtocolViolation(f"TLS failed: {_openssl_text(problem.value)}")
    handle = getattr(tls, "_tlsConnection", None)
    if tls.disconnecting or handle is None or not truncates or handle.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
        return None
    return PeerAborted("closed without a goodbye in TLS")


class _Stage:
    """What stages share: a connection, and an end that is told."""

    __slots__ = ("_connection",)
    name = ""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def expire(self) -> None:
        """The stage's time is over."""
        self._connection.close(DeadlineExceeded(f"{self.name}_timeout"))

    def connectionLost(self, reason: Failure) -> None:
        """The peer left before the stage was over."""
        if self._connection.ending is None and reason.check(ConnectionDone, ConnectionLost):
            self._connection.ending = PeerAborted(f"closed during the {self.name} stage")


class ProxyStage(_Stage):
    """Reads the PROXY header of a trusted peer; afterwards the client is the one that it names."""

    __slots__ = ("_begun", "_parser", "_policy")
    name = "proxy"

    def __init__(self, connection: Connection, policy: ProxyPolicy) -> None:
        super().__init__(connection)
        self._policy = policy
        self._parser = ProxyParser(policy)
        self._begun = False

    def dataReceived(self, data: bytes) -> None:
        """Feed the header's parser."""
        connection = self._connection
        self._begun = True
        try:
            header = self._parser.feed(data)
        except ProtocolViolation as violation:
            connection.close(violation)
            return
        if header is not None and self._relay(header):
            after_proxy(connection, header.rest)

    def expire(self) -> None:
        """No header came: where none is required, this may be a peer that waits for the server to speak."""
        if self._policy.required or self._begun:
            super().expire()
        elif self._connection.listener.identify(self._connection):
            after_proxy(self._connection, b"")

    def _relay(self, header: ProxyHeader) -> bool:
        """Take over the addresses that the proxy relays; False when the client is refused."""
        connection = self._connection
        peer = connection.peer
        peer.proxy_tlvs = dict(header.tlvs) or None
        if header.relayed:
            peer.host, peer.port = header.source_host, header.source_port
            peer.local_host, peer.local_port = header.destination_host, header.destination_port
        elif header.version:
            return True  # the proxy's own, such as a health check, or of nobody it could name: it is trusted itself
        return connection.listener.identify(connection)


class DetectStage(_Stage):
    """Collects first bytes until a detector claims them."""

    __slots__ = ("_data",)
    name = "detect"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._data = b""

    def start(self, data: bytes) -> None:
        """Begin with what is there."""
        connection = self._connection
        connection.read_with(self, connection.listener.detection.policy.timeout)
        self.dataReceived(data)  # without data too: where there is only a fall-back, nothing is waited for

    def dataReceived(self, data: bytes) -> None:
        """Ask the detectors again."""
        self._data += data
        listener = self._connection.listener
        try:
            name = listener.detection_for(self._connection).decide(self._data)
        except NetappError as undecided:
            self._connection.close(undecided)
            return
        if name is not None:
            self._go_on(name)

    def expire(self) -> None:
        """Nothing more came: decide with what there is."""
        try:
            self._go_on(self._connection.listener.detection_for(self._connection).expire(self._data))
        except NetappError as undecided:
            self._connection.close(undecided)

    def _go_on(self, name: str) -> None:
        connection = self._connection
        if name == TLS_ROUTE:
            start_tls(connection, self._data)
        else:
            connection.hand_over(name, connection.listener.factories[name], self._data)


@implementer(IHandshakeListener)
class TlsStage(_Stage):
    """Stands inside TLS while the handshake is under way."""

    __slots__ = ("_transport",)
    name = "handshake"

    def makeConnection(self, transport: Any) -> None:
        """TLS is there, the handshake is not done."""
        self._transport = transport

    def handshakeCompleted(self) -> None:
        """Note who the peer is, and go on inside."""
        connection = self._connection
        try:
            connection.peer.tls = tls_info(self._transport.getHandle())
        except ProtocolViolation as violation:  # a verified certificate that cannot be read is nobody's identity
            connection.close(violation)
            return
        connection.listener.handshakes("ok")
        after_tls(connection, b"")

    def dataReceived(self, data: bytes) -> None:
        """Receive nothing: whoever comes next is in place before TLS delivers."""

    def connectionLost(self, reason: Failure) -> None:
        """The handshake failed: whose fault it was is in the reason."""
        connection = self._connection
        if connection.peer.tls is None:
            connection.listener.handshakes("failed")
        if connection.ending is None and _is_openssl(reason.value):
            connection.ending = ProtocolViolation(f"TLS handshake failed: {_openssl_text(reason.value)}")
        super().connectionLost(reason)


def _is_openssl(error: BaseException | None) -> bool:
    return type(error).__module__.startswith("OpenSSL")


def _openssl_text(error: BaseException | None) -> str:
    """Take the readable part of OpenSSL's error queue: ``[(library, function, reason), …]``."""
    entries = error.args[0] if error is not None and error.args else ()
    if isinstance(entries, list):
        return "; ".join(entry[-1] for entry in entries if isinstance(entry, tuple)) or type(error).__name__
    return str(error)
