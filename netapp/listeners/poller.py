"""One entry in the reactor for all connections of a listener.

Twisted's reactors wrap every event of every descriptor in a log context, which costs about as much as reading from a
socket does. A :class:`Poller` is one descriptor to the reactor, an epoll of its own, with the listener's connections in
it (epoll descriptors can be polled, epoll(7)). The reactor calls it once a turn, and it calls the connections that are
ready. To the transports it is the reactor: it takes their readers and writers, and passes on everything else.

What a connection's event does is what Twisted's reactors do; a legacy log message (``twisted.python.log.msg``) inside
of it is the one thing that lacks something: the connection's name as its system.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFDSet

BATCH = 256
"""Events handled before the reactor gets its turn back, with its timers and everybody else's descriptors."""
_IN, _OUT = (select.EPOLLIN, select.EPOLLOUT) if hasattr(select, "epoll") else (1, 4)
_GONE = (select.EPOLLHUP | select.EPOLLERR) if hasattr(select, "epoll") else 24

_log = Logger("netapp.listeners")


def reactor_for_transports(reactor: Any) -> Any:
    """Return what a listener's transports should take for their reactor: a poller where there is epoll."""
    return Poller(reactor) if hasattr(select, "epoll") else reactor


@implementer(IReadDescriptor)
class Poller:
    """Polls transports on behalf of ``reactor``; :meth:`close` when no more will come."""

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor: Any = reactor
        self._epoll = select.epoll()
        self._transports: dict[int, Any] = {}  # by descriptor, those that want anything
        self._interest: dict[int, int] = {}
        self._closing = False
        reactor.addReader(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # -- a descriptor to the reactor

    def fileno(self) -> int:
        """Return the epoll's descriptor; -1 once it is closed."""
        return self._epoll.fileno() if not self._epoll.closed else -1

    def logPrefix(self) -> str:
        """Name it in logs."""
        return "netapp"

    def doRead(self) -> None:
        """Some connections are ready: see to each. Whatever happens to one of them happens to no other."""
        for fd, event in self._epoll.poll(0, BATCH):
            transport = self._transports.get(fd)
            if transport is not None:  # one before it may have ended it
                self._dispatch(transport, fd, event)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends: so does every connection."""
        for transport in list(self._transports.values()):
            transport.connectionLost(reason)
        self.close()

    def close(self) -> None:
        """Go, as soon as the last connection has gone."""
        self._closing = True
        if not self._transports and not self._epoll.closed:
            self._reactor.removeReader(self)
            self._epoll.close()

    # -- a reactor to the transports

    def addReader(self, transport: Any) -> None:
        """Call ``transport.doRead`` when there is something to read."""
        self._want(transport, _IN)

    def addWriter(self, transport: Any) -> None:
        """Call ``transport.doWrite`` when there is room to write."""
        self._want(transport, _OUT)

    def removeReader(self, transport: Any) -> None:
        """Do not call ``transport.doRead`` any more."""
        self._leave(transport, _IN)

    def removeWriter(self, transport: Any) -> None:
        """Do not call ``transport.doWrite`` any more."""
        self._leave(transport, _OUT)

    def _want(self, transport: Any, bit: int) -> None:
        fd = transport.fileno()
        known = self._interest.get(fd, 0)
        if known and self._transports[fd] is not transport:
            # somebody closed a connection's socket behind its back, and the kernel has given the number away again
            self._forget(fd)
            known = 0
        if known & bit:
            return
        if known:
            self._epoll.modify(fd, known | bit)
        else:
            self._epoll.register(fd, bit)
            self._transports[fd] = transport
        self._interest[fd] = known | bit

    def _leave(self, transport: Any, bit: int) -> None:
        fd = transport.fileno()
        known = self._interest.get(fd, 0)
        if not known & bit:
            return
        if known != bit:
            self._epoll.modify(fd, known & ~bit)
            self._interest[fd] = known & ~bit
            return
        self._epoll.unregister(fd)
        self._forget(fd)
        if self._closing:
            self.close()

    def _forget(self, fd: int) -> None:
        del self._transports[fd], self._interest[fd]

    def _dispatch(self, transport: Any, fd: int, event: int) -> None:
        """Read and write, and end the connection as Twisted's reactors do when either says so."""
        why: Any = None
        reading = False
        if event & _GONE and not event & _IN:
            # all input has been read, so, for one who reads, this is the orderly end
            reading = bool(self._interest.get(fd, 0) & _IN)
            why = main.CONNECTION_DONE if reading else main.CONNECTION_LOST
        else:
            try:
                if event & _IN:
                    reading = True
                    why = transport.doRead()
                if why is None and event & _OUT and fd in self._transports:
                    reading = False
                    why = transport.doWrite()
            except Exception as defect:  # noqa: BLE001 - it costs its connection and no other
                _log.failure("a connection's protocol failed")
                why = defect
        if why is None:
            return
        try:
            self._end(transport, why, reading=reading)
        except Exception:  # noqa: BLE001 - as above; the reactor must not hear of it, or it would end us all
            _log.failure("a connection's end failed")

    def _end(self, transport: Any, why: BaseException, *, reading: bool) -> None:
        self.removeReader(transport)
        if reading and isinstance(why, ConnectionDone):
            transport.readConnectionLost(_DONE)
            return
        self.removeWriter(transport)
        transport.connectionLost(_REASONS.get(type(why)) or Failure(why))


_DONE = Failure(main.CONNECTION_DONE)
_REASONS: dict[type[BaseException], Failure] = {ConnectionDone: _DONE, ConnectionLost: Failure(main.CONNECTION_LOST)}
