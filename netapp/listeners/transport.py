"""Ports and transports of our own for Twisted's descriptor-based reactors.

An endpoint makes its port through the reactor it is given; :class:`ListeningReactor` is that reactor, and makes ours.
They differ from Twisted's in what a listener on the open internet needs and a subclass can add without a wrapper on
the path of the bytes:

- a write goes to the kernel at once when nothing is waiting before it. Twisted's own waits for the reactor to say that
  the socket is writable, which costs two ``epoll_ctl`` calls and a turn for each reply, and nearly always could have
  been sent straight away;
- bytes are counted in both directions, and the error that ended a connection is kept;
- a peer that reads nothing for ``write_timeout`` seconds is cut;
- a port out of descriptors pauses with a growing delay instead of spinning, and no failure of one connection reaches
  its neighbours.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import main, tcp, unix
from twisted.internet.task import deferLater
from twisted.logger import Logger

from netapp.errors import DeadlineExceeded
from netapp.listeners.lastcall import turn_newcomers_away
from netapp.timers import NEVER

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProtocolFactory

    from netapp.listeners.service import Listener

READ_SIZE = 64 * 1024
ACCEPTS = 64
"""Connections accepted in one turn, so that a flood of them does not starve those that are open."""
LAST_CALL = 0.1
"""Seconds between turning newcomers away and closing: a handshake that has begun needs one more round trip."""
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


class _Metered:
    """What TCP and UNIX transports have in common: counters, the write deadline, the address of a proxy's client."""

    bytes_in = 0
    bytes_out = 0
    error: BaseException | None = None
    client_address: Any = None
    deadline = NEVER
    slot = 0
    server: Any
    dataBuffer: bytes
    offset: int
    _tempDataLen: int

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def closed_here(self) -> bool:
        """Whether it was we who began to close."""
        return bool(self.disconnecting or self._writeDisconnecting)  # type: ignore[attr-defined]

    def expired(self, now: float) -> None:  # noqa: ARG002 - Timed's signature
        """Cut a peer that has not read anything for too long."""
        if self.unsent and getattr(self, "connected", False):
            self.error = DeadlineExceeded("write_timeout", "the peer does not read")
            self.abortConnection()  # type: ignore[attr-defined]  # the transport's own

    def _watch_writes(self) -> None:
        """Bytes are left waiting: give the peer its time to read some of them."""
        listener = self.server.listener
        if listener.write_timeout:
            timers = listener.timers
            timers.arm(self, timers.now() + listener.write_timeout)

    def _wrote(self, size: int) -> None:
        self.bytes_out += size
        if self.deadline != NEVER:
            listener = self.server.listener
            self.deadline = listener.timers.now() + listener.write_timeout

    def writeSomeData(self, data: bytes) -> int | BaseException:
        """Send what the kernel takes, and note that the peer made progress."""
        size: int | BaseException = super().writeSomeData(data)  # type: ignore[misc]  # the transport's own
        if isinstance(size, int) and size:
            self._wrote(size)
        return size

    def write(self, data: bytes) -> None:
        """Send at once what the kernel takes, and buffer the rest."""
        if (
            self._tempDataLen
            or self.dataBuffer
            or not self.connected  # type: ignore[attr-defined]  # these are the transport's own
            # after loseConnection, what is written goes the ordinary way, which knows what becomes of it
            or self.disconnecting  # type: ignore[attr-defined]
            or self._writeDisconnecting  # type: ignore[attr-defined]
            # with startTLS these are not yet the bytes that go over the wire
            or self.TLS  # type: ignore[attr-defined]
            # a pull producer lives on the reactor's word that the buffer has run empty
            or (self.producer is not None and not self.streamingProducer)  # type: ignore[attr-defined]
        ):
            self._write_in_turn(data)
            return
        try:
            size: int = self.socket.send(data)  # type: ignore[attr-defined]
        except OSError:
            # Either the kernel's buffer is full, or the connection is broken: the reactor will find out which, in
            # its own turn, as every protocol expects.
            size = 0
        self.bytes_out += size
        if size != len(data):
            self._write_in_turn(data[size:] if size else data)

    def _write_in_turn(self, data: bytes) -> None:
        """Write in Twisted's way: buffered until the reactor says that the socket is writable."""
        super().write(data)  # type: ignore[misc]  # the transport's own
        if self.deadline == NEVER and self.unsent:
            self._watch_writes()

    def writeSequence(self, iovec: Any) -> None:
        """Write the pieces as one."""
        self.write(b"".join(iovec))

    def connectionLost(self, reason: Any) -> None:
        """Forget the write deadline."""
        self.server.listener.timers.disarm(self)
        super().connectionLost(reason)  # type: ignore[misc]  # the transport's own


class TcpTransport(_Metered, tcp.Server):  # type: ignore[misc]  # _Metered.write stands before Twisted's
    """One accepted TCP connection."""

    def getPeer(self) -> Any:
        """Return the client's address: behind a trusted proxy, the one that it named."""
        return self.client_address or super().getPeer()

    def doRead(self) -> Any:
        """Receive once, count, and deliver."""
        try:
            data = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self.error = error
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.bytes_in += len(data)
        self.protocol.dataReceived(data)
        return None


class UnixTransport(_Metered, unix.Server):  # type: ignore[misc]
    """One accepted connection of a UNIX socket. Reading stays Twisted's, which also receives descriptors."""

    def write(self, data: bytes) -> None:
        """Write behind the descriptors that wait to be passed, or at once when there are none."""
        if self._sendmsgQueue:
            self._write_in_turn(data)
        else:
            super().write(data)

    def _dataReceived(self, data: bytes | None) -> Any:
        self.bytes_in += len(data or b"")
        return super()._dataReceived(data)


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
        wait = LAST_CALL if turn_newcomers_away(self.socket) else 0.0
        return deferLater(self.reactor, wait, self.stopListening)

    def connectionLost(self, reason: Any) -> None:
        """Close, but first accept all that the kernel has queued, and would reset."""
        before = -1
        while before != self.listener.accepted:
            before = self.listener.accepted
            self.doRead()
        self._forget_pause()
        super().connectionLost(reason)  # type: ignore[misc]  # the port's own

    def _accepted(self, connection: socket.socket, peer: Any) -> None:
        """Make one connection. Its failure is its own."""
        try:
            protocol = self.factory.buildProtocol(self._buildAddr(_with_scope(peer)))  # type: ignore[attr-defined]
            if protocol is None:
                connection.close()
                return
            self.sessionno: int
            session = self.sessionno
            self.sessionno = session + 1
            transport = self.transport(connection, protocol, peer, self, session, self.reactor)  # type: ignore[attr-defined]
            transport.bufferSize = self.listener.write_buffer
            protocol.makeConnection(transport)
        except Exception:  # noqa: BLE001 - one connection's failure is no other's
            _log.failure("a connection could not be set up on {listener}", listener=self.listener.name)
            connection.close()

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


def _with_scope(peer: Any) -> Any:
    """Write the scope of a link-local IPv6 address into its text, as Twisted does."""
    if len(peer) == 4 and peer[3]:  # noqa: PLR2004 - host, port, flow, scope
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
            return self._start(UnixPort._fromListeningDescriptor(self._reactor, fileDescriptor, factory))  # noqa: SLF001
        made = TcpPort._fromListeningDescriptor(self._reactor, fileDescriptor, addressFamily, factory)  # noqa: SLF001
        return self._start(made)

    def _start(self, port: P) -> P:
        port.listener = self._listener
        port.startListening()
        return port
