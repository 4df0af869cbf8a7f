"""Sockets and a reactor in memory, and a listener on them: what a kernel does is said by the test."""

import errno
import socket
from collections import deque
from itertools import count

from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.testing import MemoryReactorClock

from netapp.listeners.port import TcpPort, UnixPort
from netapp.listeners.service import Listener, _Doorman
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers

_numbers = count(1000)


class FakeSocket:
    """One accepted connection. ``kernel`` says of each send how many bytes it takes, or raises; then it takes all."""

    def __init__(self, *kernel, family=socket.AF_INET):
        self.kernel = deque(kernel)
        self.family = family
        self.sent = b""
        self.sends = 0
        self.incoming = deque()
        self.options = {}
        self.closed = False
        self._number = next(_numbers)

    # what a test does

    def feed(self, *pieces):
        """Let the peer send: bytes, b"" for its end, or an error."""
        self.incoming.extend(pieces)

    @property
    def readable(self):
        return bool(self.incoming)

    # what a transport does

    def send(self, data):
        assert not self.closed
        self.sends += 1
        room = self.kernel.popleft() if self.kernel else len(data)
        if isinstance(room, Exception):
            raise room
        if not room and data:
            raise BlockingIOError(errno.EAGAIN, "full")
        taken = bytes(data[:room])
        self.sent += taken
        return len(taken)

    def recv(self, size):
        if not self.incoming:
            raise BlockingIOError(errno.EAGAIN, "empty")
        data = self.incoming.popleft()
        if isinstance(data, Exception):
            raise data
        if len(data) > size:
            self.incoming.appendleft(data[size:])
        return data[:size]

    def setblocking(self, flag):
        assert not flag

    def fileno(self):
        return -1 if self.closed else self._number

    def setsockopt(self, level, option, value):
        self.options[level, option] = value

    def getsockopt(self, level, option):
        return self.options.get((level, option), 0)

    def getsockname(self):
        return ("198.51.100.1", 443)

    def shutdown(self, how):
        self.shut = how

    def close(self):
        self.closed = True


class FakeListening(FakeSocket):
    """A listening socket. ``feed`` it connections, as (socket, address), or errors."""

    def accept(self):
        if not self.incoming:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        found = self.incoming.popleft()
        if isinstance(found, Exception):
            raise found
        return found


class Loop(_DisconnectSelectableMixin, MemoryReactorClock):
    """A reactor that is turned by hand, and treats descriptors as Twisted's do."""

    def turn(self):
        """Handle once what is due, what can be read, and what wants to write."""
        self.advance(0)
        for descriptor in list(self.readers):
            if descriptor in self.readers and descriptor.socket.readable:
                self._handle(descriptor, descriptor.doRead, reading=True)
        for descriptor in list(self.writers):
            if descriptor in self.writers:
                self._handle(descriptor, descriptor.doWrite, reading=False)
        self.advance(0)

    def _handle(self, descriptor, action, *, reading):
        try:
            why = action()
        except Exception as defect:  # noqa: BLE001 - as a reactor does
            why = defect
        if why is not None:
            self._disconnectSelectable(descriptor, why, reading)


class World:
    """A listener in memory. ``options`` are the Listener's own."""

    def __init__(self, factory=None, *, port=TcpPort, **options):
        self.loop = Loop()
        self.timers = Timers(self.loop, now=self.loop.seconds, tick=0.001)
        self.registry = Registry()
        self.listener = Listener(
            "here", "tcp:0", factory, reactor=self.loop, timers=self.timers, registry=self.registry, **options
        )
        self.listener.poller = self.loop
        self.factory = factory
        doorman = _Doorman(self.listener)
        if port is TcpPort:
            self.port = TcpPort(0, doorman, 50, "", self.loop)
        else:
            self.port = UnixPort("/nowhere", doorman, 50, 0o600, self.loop)
        self.port.listener = self.listener
        self.port.socket = FakeListening()
        self.port.fileno = self.port.socket.fileno
        self.port.connected = True
        self.port.startReading()

    def connect(self, *kernel, address=("192.0.2.7", 1111)):
        """Connect a peer; return its socket and, unless it was refused, its connection."""
        before = set(self.listener.connections)
        accepted = FakeSocket(*kernel)
        self.port.socket.feed((accepted, address))
        self.loop.turn()
        new = [found for name, found in self.listener.connections.items() if name not in before]
        return accepted, (new[0] if new else None)

    def value(self, name, *labels):
        """One child's value of a metric."""
        [family] = [family for family in self.registry if family.name == name]
        return family.child(*labels).value

    def ends(self):
        """How many connections ended in which way."""
        [family] = [family for family in self.registry if family.name == "netapp_connections_ended_total"]
        return {str(labels[1]): child.value for labels, child in family.children.items()}

    def assert_without_trace(self):
        assert self.listener.connections == {}
        assert (self.listener.admission.open, self.listener.admission.clients) == (0, 0)
        assert len(self.timers) == 0
        assert not (self.loop.readers | self.loop.writers) - {self.port}
