"""Transports of our own for Twisted's descriptor-based reactors.

They differ from Twisted's in what a listener on the open internet needs and a subclass can add without a wrapper on
the path of the bytes:

- a write goes to the kernel at once when nothing is waiting before it. Twisted's own waits for the reactor to say that
  the socket is writable, which costs two ``epoll_ctl`` calls and a turn for each reply, and nearly always could have
  been sent straight away;
- bytes are counted in both directions, and the error that ended a connection is kept;
- a peer that reads nothing for ``write_timeout`` seconds is cut, and one that does not answer TLS's goodbye is not
  waited for;
- whoever keeps a connection's books is told of its end, whatever protocol it was given to and whatever that raises.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import main, tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from netapp.errors import DeadlineExceeded
from netapp.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IProducer

    from netapp.listeners.connection import Connection

READ_SIZE = 64 * 1024
GOODBYE = 5.0
"""Seconds that a peer has to answer TLS's goodbye once everything is sent; nginx's ``lingering_timeout``."""
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
