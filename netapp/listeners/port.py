"""Ports of our own for Twisted's descriptor-based reactors, and how an endpoint comes to make them.

An endpoint makes its port through the reactor it is given; :class:`ListeningReactor` is that reactor, and makes ours.
A port of ours that is out of descriptors pauses with a growing delay instead of spinning, accepts whom the kernel has
queued before it closes, and lets no failure of one connection reach its neighbours.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import tcp, unix
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from netapp.listeners.lastcall import turn_newcomers_away
from netapp.listeners.transport import TcpTransport, UnixTransport

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocolFactory

    from netapp.listeners.service import Listener

ACCEPTS = 64
"""Connections accepted in one turn, so that a flood of them does not starve those that are open."""
LAST_CALL = 0.1
"""Seconds between turning newcomers away and closing: a handshake that has begun needs one more round trip."""
LARGEST_QUEUE = 4096
"""Connections that the kernel may have queued where the backlog is not known: Linux's net.core.somaxconn."""
FIRST_PAUSE = 0.01
LAST_PAUSE = 1.0
# accept(2) on Linux passes on errors of the connection that was about to be accepted: they are that peer's alone
_ONE_PEERS_ERROR = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)

_log = Logger("netapp.listeners")


class _Hardened:
    """What our ports have in common: accepting that survives the lack of descriptors."""

    listener: Listener
    socket: Any
    reactor: Any
    _pause = 0.0
    _resumption: Any = None

    def doRead(self) -> None:
        """Accept what is waiting, up to a bound."""
        for _ in range(ACCEPTS):
            try:
                connection, peer = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _ONE_PEERS_ERROR:
                    continue
                self._pause_accepting(error)
                return
            self._pause = 0.0
            self._accepted(connection, peer)

    def close_in_order(self) -> Deferred[None]:
        """Turn newcomers away, accept who is through the handshake, then close."""
        # A filter is the socket's, not this process's: on one that is not ours it would outlive us, for everybody.
        wait = LAST_CALL if self._is_ours and turn_newcomers_away(self.socket) else 0.0
        return deferLater(self.reactor, wait, self.stopListening)

    @property
    def _is_ours(self) -> bool:
        """Whether we made the socket, and nobody else listens on it."""
        return bool(self._shouldShutdown)  # type: ignore[attr-defined]  # Twisted's word for it

    def connectionLost(self, reason: Any) -> None:
        """Close, but first accept all that the kernel has queued, and would reset."""
        queued = self.backlog or LARGEST_QUEUE  # type: ignore[attr-defined]  # none where the socket was given to us
        for _ in range(0, queued + 1, ACCEPTS):  # whoever still comes must not put the end off
            self.doRead()
        self._forget_pause()
        super().connectionLost(reason)  # type: ignore[misc]  # the port's own

    def _accepted(self, connection: socket.socket, peer: Any) -> None:
        """Make one connection. Its failure is its own."""
        protocol = transport = None
        try:
            protocol = self.factory.buildProtocol(self._buildAddr(_with_scope(peer)))  # type: ignore[attr-defined]
            if protocol is None:
                connection.close()
                return
            self.sessionno: int
            session = self.sessionno
            self.sessionno = session + 1
            transport = self.transport(connection, protocol, peer, self, session, self.listener.poller)  # type: ignore[attr-defined]
            protocol.makeConnection(transport)
        except Exception:  # noqa: BLE001 - one connection's failure is no other's
            _log.failure("a connection could not be set up on {listener}", listener=self.listener.name)
            if transport is None:
                connection.close()
                self.listener.give_back(protocol)
            else:
                # The reactor knows it by now, and must not be left with the number of a closed socket.
                transport.connectionLost(Failure())

    def _pause_accepting(self, error: OSError) -> None:
        """Wait for the system to have room again, longer each time (EMFILE, ENFILE, ENOBUFS, ENOMEM)."""
        self._pause = min(LAST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self.listener.accept_paused(error, self._pause)
        self.stopReading()  # type: ignore[attr-defined]
        self._resumption = self.reactor.callLater(self._pause, self._resume_accepting)

    def _resume_accepting(self) -> None:
        self._resumption = None
        if not self.disconnecting:  # type: ignore[attr-defined]
            self.startReading()  # type: ignore[attr-defined]

    def loseConnection(self, *args: Any) -> Any:
        """Stop accepting for good."""
        self._forget_pause()
        return super().loseConnection(*args)  # type: ignore[misc]

    stopListening = loseConnection

    def _forget_pause(self) -> None:
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None


class TcpPort(_Hardened, tcp.Port):
    """A listening TCP socket."""

    transport = TcpTransport

    def startListening(self) -> None:
        """Listen. The options are inherited by every accepted socket (Linux), which saves a call for each."""
        super().startListening()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class UnixPort(_Hardened, unix.Port):
    """A listening UNIX socket."""

    transport = UnixTransport

    def disown(self) -> None:
        """Leave the socket as it is when we close our end, and its file in any case: both are somebody else's."""
        self._shouldShutdown = False
        # Twisted changes and removes the file of every path but those of the abstract namespace, which have no file.
        self._bindPath = b"\0" + self._bindPath

    def connectionLost(self, reason: Any) -> None:
        """Close, though somebody may have removed the file."""
        if not os.path.lexists(self._bindPath):
            self.disown()
        super().connectionLost(reason)


def _with_scope(peer: Any) -> Any:
    """Write the scope of a link-local IPv6 address into its text, as Twisted does."""
    if isinstance(peer, tuple) and len(peer) == 4 and peer[3]:  # noqa: PLR2004 - host, port, flow, scope
        host = socket.getnameinfo(peer, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        return (host, *peer[1:])
    return peer


P = TypeVar("P", TcpPort, UnixPort)


class ListeningReactor:
    """A reactor for endpoints to listen with: everything is the real one's but the ports, which are ours."""

    def __init__(self, reactor: Any, listener: Listener) -> None:
        self._reactor = reactor
        self._listener = listener

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> TcpPort:
        """Listen on TCP; the signature is IReactorTCP's."""
        made = TcpPort(port, factory, self._listener.backlog(backlog), interface, self._reactor)
        return self._start(made)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> TcpPort:
        """Listen on TCP, with TLS by the listener's own stage, so that its deadlines hold (IReactorSSL)."""
        self._listener.use_context(contextFactory)
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self,
        address: Any,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,  # noqa: FBT001, FBT002
    ) -> UnixPort:
        """Listen on a UNIX socket (IReactorUNIX)."""
        made = UnixPort(address, factory, self._listener.backlog(backlog), mode, self._reactor, wantPID)
        return self._start(made)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> Any:
        """Listen on a socket that somebody else has bound, such as systemd (IReactorSocket)."""
        if addressFamily == socket.AF_UNIX:
            adopted = UnixPort._fromListeningDescriptor(self._reactor, fileDescriptor, factory)  # noqa: SLF001
            adopted.disown()
            adopted.backlog = self._listener.backlog(adopted.backlog)
            return self._start(adopted)
        made = TcpPort._fromListeningDescriptor(self._reactor, fileDescriptor, addressFamily, factory)  # noqa: SLF001
        return self._start(made)

    def _start(self, port: P) -> P:
        port.listener = self._listener
        port.startListening()
        return port
