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
import os
import socket
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import main, tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from netapp.errors import DeadlineExceeded
from netapp.listeners.lastcall import turn_newcomers_away
from netapp.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IProducer, IProtocolFactory

    from netapp.listeners.connection import Connection
    from netapp.listeners.service import Listener

READ_SIZE = 64 * 1024
ACCEPTS = 64
"""Connections accepted in one turn, so that a flood of them does not starve those that are open."""
LAST_CALL = 0.1
"""Seconds between turning newcomers away and closing: a handshake that has begun needs one more round trip."""
LARGEST_QUEUE = 4096
"""Connections that the kernel may have queued where the backlog is not known: Linux's net.core.somaxconn."""
GOODBYE = 5.0
"""Seconds that a peer has to answer TLS's goodbye once everything is sent; nginx's ``lingering_timeout``."""
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
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS})

_log = Logger("netapp.listeners")


class _Metered:
    """What TCP and UNIX transports have in common: counters, the write deadline, the address of a proxy's client."""

    bytes_in = 0
    bytes_out = 0
    error: BaseException | None = None
    client_address: Any = None
    owner: Connection | None = None
    """Who keeps the books of this connection, whatever protocol it is given to."""
    reading = False
    peer_closed = False
    deadline = NEVER
    slot = 0
    disconnecting: int
    protocol: Any
    producer: Any
    server: Any
    TLS: bool
    dataBuffer: bytes
    offset: int
    _tempDataLen: int
    _goodbye = False
    _held: Callable[[], None] | None = None

    @property
    def unsent(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def closed_here(self) -> bool:
        """Whether it was we who began to close."""
        return bool(self.disconnecting or self._writeDisconnecting)  # type: ignore[attr-defined]

    def getPeer(self) -> Any:
        """Return the client's address: behind a trusted proxy, the one that it named."""
        return self.client_address or super().getPeer()  # type: ignore[misc]  # the transport's own

    # -- the write deadline

    def startWriting(self) -> None:
        """Bytes are left waiting: give the peer its time to read some of them."""
        super().startWriting()  # type: ignore[misc]  # the transport's own
        if self.deadline == NEVER and self.unsent:
            self._arm(self.server.listener.write_timeout)

    def stopWriting(self) -> None:
        """Nothing waits any more."""
        super().stopWriting()  # type: ignore[misc]  # the transport's own
        self.deadline = NEVER
        if self._goodbye:
            self._arm(GOODBYE)

    def await_goodbye(self) -> None:
        """Wait for the peer to answer TLS's goodbye, which it need not do (RFC 8446 §6.1), for some time only."""
        if self.connected:  # type: ignore[attr-defined]  # the transport's own
            self._goodbye = True
            if not self.unsent:
                self._arm(GOODBYE)

    def expired(self, now: float) -> None:  # noqa: ARG002 - Timed's signature
        """Cut a peer that has not read anything for too long; close behind one that does not answer our goodbye."""
        if self.unsent:
            self.error = DeadlineExceeded("write_timeout", "the peer does not read")
            self.abortConnection()
        elif self._goodbye and self.producer is None:
            FileDescriptor.loseConnection(self)  # type: ignore[arg-type]  # beneath TLS
        elif self._goodbye:
            self._arm(GOODBYE)

    def _arm(self, seconds: float) -> None:
        if seconds:
            timers = self.server.listener.timers
            timers.arm(self, timers.now() + seconds)

    def _wrote(self, size: int) -> None:
        self.bytes_out += size
        if self.deadline != NEVER:
            listener = self.server.listener
            self.deadline = listener.timers.now() + listener.write_timeout

    # -- writing

    def _isSendBufferFull(self) -> bool:
        return bool(self.unsent > self.server.listener.write_buffer)

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
            or self.disconnecting
            or self._writeDisconnecting  # type: ignore[attr-defined]
            # with startTLS these are not yet the bytes that go over the wire
            or self.TLS
            # a pull producer lives on the reactor's word that the buffer has run empty
            or (self.producer is not None and not self.streamingProducer)  # type: ignore[attr-defined]
        ):
            self._write_in_turn(data)
            return
        try:
            size: int = self.socket.send(data)  # type: ignore[attr-defined]
        except OSError as error:
            # Either the kernel's buffer is full, or the connection is broken: the reactor will find out which, in
            # its own turn, as every protocol expects. But the kernel tells only once what has broken it.
            size = 0
            if error.errno not in _FULL:
                self.error = error
        self.bytes_out += size
        if size != len(data):
            self._write_in_turn(data[size:] if size else data)

    def _write_in_turn(self, data: bytes) -> None:
        """Write in Twisted's way: buffered until the reactor says that the socket is writable."""
        # Twisted wants bytes proper, the kernel takes what is like them: whether it works must not depend on the peer.
        super().write(data if isinstance(data, bytes) else bytes(memoryview(data)))  # type: ignore[misc]  # as above

    def writeSequence(self, iovec: Any) -> None:
        """Write the pieces as one."""
        self.write(b"".join(iovec))

    # -- reading

    def startReading(self) -> None:
        """Read, but deliver first what was held back."""
        self.reading = True
        if self._held is None:
            super().startReading()  # type: ignore[misc]  # the transport's own
        else:
            self.reactor.callLater(0, self._deliver_held)  # type: ignore[attr-defined]

    def stopReading(self) -> None:
        """Read nothing more for now."""
        self.reading = False
        super().stopReading()  # type: ignore[misc]  # the transport's own

    def hold(self, deliver: Callable[[], None]) -> bool:
        """Keep what was read ahead from a protocol that has paused us; False where it has not, and may have it now.

        ``deliver`` is called once reading goes on, before anything more is read.
        """
        if self.reading or not self.connected:  # type: ignore[attr-defined]
            return False
        self._held = deliver
        return True

    def _deliver_held(self) -> None:
        if self._held is None or not self.reading:
            return  # done, or paused again
        deliver, self._held = self._held, None
        super().startReading()  # type: ignore[misc]  # the transport's own
        try:
            deliver()
        except Exception:  # noqa: BLE001 - it costs this connection only
            _log.failure("dataReceived failed")
            self.connectionLost(Failure())

    # -- ending

    def startTLS(self, ctx: Any, normal: bool = True) -> None:  # noqa: FBT001, FBT002 - Twisted's signature
        """Put TLS on the connection (ITLSTransport); where that fails, everything is as it was."""
        protocol = self.protocol
        try:
            super().startTLS(ctx, normal)  # type: ignore[misc]  # the transport's own
        except BaseException:
            self.protocol, self.TLS = protocol, False
            raise

    def loseConnection(self) -> None:
        """Close behind what was written."""
        super().loseConnection()  # type: ignore[misc]  # the transport's own
        if self.TLS:
            self.await_goodbye()

    def abortConnection(self) -> None:
        """Close at once; what is still written goes nowhere."""
        super().abortConnection()  # type: ignore[misc]  # the transport's own
        self.disconnecting = 1

    def readConnectionLost(self, reason: Any) -> None:
        """The peer closed its side."""
        self.peer_closed = not self.closed_here
        super().readConnectionLost(reason)  # type: ignore[misc]  # the transport's own

    def connectionLost(self, reason: Any) -> None:
        """Tell the protocol, whoever that is by now, and see to it that the connection's books are closed."""
        owner, self.owner = self.owner, None
        if self.producer is not None:
            self.producer = _LastStop(self.producer)
        if owner is None:
            self._lose_unowned(reason)
        else:
            if self.error is None and reason.check(ConnectionLost):
                self.error = self._kernels_error()
            owner.lose(reason, super().connectionLost)  # type: ignore[misc]
        self._held = None
        self.server.listener.timers.disarm(self)

    def _lose_unowned(self, reason: Any) -> None:
        """Tell whoever stands between the listener and us; what that does wrong is nobody else's."""
        try:
            super().connectionLost(reason)  # type: ignore[misc]  # the transport's own
        except Exception:  # noqa: BLE001 - as above
            _log.failure("connectionLost failed")

    def _kernels_error(self) -> OSError | None:
        """Ask what broke the connection while nothing was read or written."""
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # type: ignore[attr-defined]
        return OSError(number, os.strerror(number)) if number else None


class _LastStop:
    """A producer that may fail to stop: Twisted stops it before it closes the socket, which has to be closed."""

    def __init__(self, producer: IProducer) -> None:
        self._producer = producer

    def stopProducing(self) -> None:
        """Stop it, come what may."""
        try:
            self._producer.stopProducing()
        except Exception:  # noqa: BLE001 - it costs this connection only
            _log.failure("stopProducing failed")


class TcpTransport(_Metered, tcp.Server):  # type: ignore[misc]  # _Metered.write stands before Twisted's
    """One accepted TCP connection."""

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

    def _isSendBufferFull(self) -> bool:
        return len(self._sendmsgQueue) > self._fileDescriptorBufferSize or super()._isSendBufferFull()

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
