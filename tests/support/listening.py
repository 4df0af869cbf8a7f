"""A listener on real sockets, peers that a test plays, and a look at what they leave behind."""

import contextlib
import socket
import ssl
import struct
import time
from pathlib import Path
from unittest import mock

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from netapp.listeners.service import Listener
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers

PATIENCE = 10.0
"""Seconds after which a condition that has not come true is a failure."""
LOCALHOST = "tcp:0:interface=127.0.0.1"


def pause(seconds=0.001):
    return deferLater(reactor, seconds)


async def until(condition, what="the condition"):
    """Let the reactor run until ``condition()`` is true; return what it returned."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what} did not come true"
        await pause()
    return found


def sockets():
    """The sockets and pollers that the process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found.append(descriptor.readlink().name)
    return sorted(name for name in found if name.startswith(("socket:", "anon_inode:[eventpoll]")))


@contextlib.asynccontextmanager
async def serving(last_call=0.0):
    """Make listeners; in the end, stop them all, and see that nothing is left of any connection."""
    before = sockets()
    made = []

    def serve(factory=None, **options):
        made.append(Served(events, factory, **options))
        return made[-1]

    with Events() as events, mock.patch("netapp.listeners.port.LAST_CALL", last_call):
        serve.events = events
        yield serve
        for served in made:
            await served.stop()
    assert sockets() == before
    assert len(events.failures) == events.expected, events.failures


class Recorder(Protocol):
    """Keeps what it hears, and why it ended."""

    def __init__(self):
        self.received = b""
        self.made = False
        self.reason = None

    def connectionMade(self):
        self.made = True
        self.factory.made.append(self)

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason=connectionDone):
        assert self.reason is None, "connectionLost was called twice"
        self.reason = reason.value


class Echoing(Recorder):
    """Sends back what it hears."""

    def dataReceived(self, data):
        super().dataReceived(data)
        self.transport.write(data)


class Recording(Factory):
    """Makes ``protocol`` and keeps each, with the address that it was built for."""

    noisy = False

    def __init__(self, protocol=Echoing):
        self.protocol = protocol
        self.made = []
        self.addresses = []

    def buildProtocol(self, addr):
        self.addresses.append(addr)
        return super().buildProtocol(addr)

    async def one(self):
        """Return the protocol of the first connection, once there is one."""
        await until(lambda: self.made, "a connection")
        return self.made[0]


class Events:
    """What is logged: one event for each end of a connection, and every failure. ``expected`` is how many of those."""

    def __init__(self):
        self.all = []
        self.expected = 0

    def __call__(self, event):
        if event.get("log_namespace", "").startswith("netapp.") or event.get("isError"):
            self.all.append(event)

    def __enter__(self):
        globalLogPublisher.addObserver(self)
        return self

    def __exit__(self, *_):
        globalLogPublisher.removeObserver(self)

    def of(self, listener):
        """The ends of a listener's connections."""
        return [event for event in self.all if "end" in event and event.get("listener") == listener]

    @property
    def failures(self):
        """Exceptions that were logged, also by the reactor, which logs in the old way."""
        failures = (event.get("log_failure") or event.get("failure") for event in self.all)
        return [failure.value for failure in failures if failure is not None]


class Served:
    """One listener, serving. ``options`` are the Listener's own."""

    def __init__(self, events, factory=None, *, endpoint=LOCALHOST, name="here", **options):
        self.events = events
        self.factory = factory
        self.registry = Registry()
        self.timers = Timers(reactor, tick=0.01)
        self.listener = Listener(
            name, endpoint, factory, reactor=reactor, timers=self.timers, registry=self.registry, **options
        )
        self.listener.startService()
        self.peers = []

    @property
    def address(self):
        host = self.listener.port.getHost()
        return (host.host, host.port) if hasattr(host, "host") else host.name

    def connect(self, **options):
        """Connect a peer; the kernel does that, whether or not the reactor has accepted it yet."""
        peer = Peer(self.address, **options)
        self.peers.append(peer)
        return peer

    async def converse(self, **options):
        """Connect a peer that has been answered, so that its connection is known to be open and handed over."""
        peer = self.connect(**options)
        await peer.send(b"hello")
        assert await peer.read(5) == b"hello"
        return peer

    async def shake_hands(self, context, name="a.example", **options):
        """Connect a TLS client whose handshake is complete."""
        client = TlsPeer(self.connect(**options), context, name)
        await client.handshake()
        return client

    @property
    def ends(self):
        """How the connections that are gone ended, as the log says."""
        return [event["end"] for event in self.events.of(self.listener.name)]

    async def ended(self, *expected):
        """Wait until that many connections have ended, and compare how."""
        await until(lambda: len(self.ends) >= len(expected), f"{len(expected)} ends (there are {self.ends})")
        assert sorted(self.ends) == sorted(expected)

    def total(self, name, **labels):
        """Sum the children of a metric that have these labels."""
        for family in self.registry:
            if family.name == name:
                wanted = {family.labels.index(label): value for label, value in labels.items()}
                return sum(
                    getattr(child, "count", None) if family.kind == "histogram" else child.value
                    for values, child in family.children.items()
                    if all(values[index] == value for index, value in wanted.items())
                )
        raise AssertionError(f"no metric {name}")

    def assert_without_trace(self):
        """Nothing is left of any connection but a log line and a counter."""
        listener = self.listener
        assert listener.connections == {}
        assert listener.admission.open == 0
        assert listener.admission.clients == 0
        assert len(self.timers) == 0
        assert self.total("netapp_connections_open") == 0
        opened = self.total("netapp_connections_opened_total")
        assert opened == self.total("netapp_connections_ended_total") == len(self.ends)
        assert opened == self.total("netapp_connection_duration_seconds")
        for end in set(self.ends):
            assert self.total("netapp_connections_ended_total", end=end) == self.ends.count(end)
        for event in self.events.of(listener.name):
            assert {"id", "peer", "protocol", "bytes_in", "bytes_out", "seconds", "end"} <= event.keys()
        assert len({event["id"] for event in self.events.of(listener.name)}) == opened

    async def stop(self):
        """Let peers go, stop, and see that nothing is left."""
        for peer in self.peers:
            peer.close()
        await until(lambda: not self.listener.connections, "the end of every connection")
        await self.listener.stopService()
        self.assert_without_trace()
        if self.timers._call is not None and self.timers._call.active():
            self.timers._call.cancel()


class Peer:
    """A client that does exactly what a test says, on a socket of its own."""

    def __init__(self, address, *, source=None, receive_buffer=0):
        family = socket.AF_UNIX if isinstance(address, (str, bytes)) else socket.AF_INET
        if family == socket.AF_INET and ":" in address[0]:
            family = socket.AF_INET6
        self.socket = socket.socket(family)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            self.socket.bind((source, 0) if family != socket.AF_UNIX else source)
        self.socket.connect(address)
        self.socket.setblocking(False)

    @property
    def name(self):
        return self.socket.getsockname()

    async def send(self, data):
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                await pause()

    async def some(self, most=65536):
        """Read what is there, once there is something; b"" at the end. ConnectionResetError after a reset."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.socket.recv(most)
            except BlockingIOError:
                assert time.monotonic() < end, "nothing was sent"
                await pause()

    async def read(self, size):
        """Read ``size`` bytes; fewer where the server closes before."""
        pieces, missing = [], size
        while missing and (piece := await self.some(min(missing, 65536))):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    async def rest(self):
        """Read to the end, in order or not."""
        pieces = []
        try:
            while piece := await self.some():
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    @property
    def is_closed(self):
        """Whether the server has closed, in order or not."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def finish(self):
        """Close this side only."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class TlsPeer:
    """The standard library's TLS on a peer."""

    def __init__(self, peer, context, name="a.example"):
        self.peer = peer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name)

    async def _do(self, action, *arguments):
        while True:
            try:
                done = action(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.peer.some()
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                await self.flush()
                return done

    async def flush(self):
        await self.peer.send(self._out.read())

    def hello(self):
        """The bytes of a ClientHello, unsent."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._out.read()
        raise AssertionError("the handshake did not begin")

    async def handshake(self, first=b""):
        """Shake hands; ``first`` is sent together with the end of the handshake."""
        await self._do(self._shake_hands, first)

    def _shake_hands(self, first):
        self.tls.do_handshake()
        if first:
            self.tls.write(first)

    async def send(self, data):
        await self._do(self.tls.write, data)

    async def read(self, size):
        """Read ``size`` bytes; fewer where the server says goodbye before."""
        found = b""
        while len(found) < size:
            try:
                piece = await self._do(self.tls.read, size - len(found))
            except ssl.SSLZeroReturnError:
                break
            if not piece:
                break
            found += piece
        return found

    async def goodbye(self):
        """Say goodbye and wait for the server's."""
        await self._do(self.tls.unwrap)

    async def send_records(self, *pieces):
        """Send a record for each piece, all at once."""
        for piece in pieces:
            self.tls.write(piece)
        await self.flush()

    async def rest(self):
        """Read to the end, in order or not."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while await self.read(1):
                pass
