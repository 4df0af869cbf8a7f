"""WebSocket on real sockets: autobahn's client, and plain sockets that behave badly."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager, suppress

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory

from netapp.http import Response, Router
from netapp.listeners.service import Listener
from netapp.listeners.tls import TlsPolicy, TlsStore
from netapp.protocols.http1 import Http1Factory
from netapp.protocols.websocket import EchoService, WebSocketPolicy, WebSocketService, websocket_responder
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers
from tests.support.certificates import certificates
from tests.support.websocket import BINARY, CLOSE, HANDSHAKE, Recorder, close, frame, read_frames, text

REQUEST = "\r\n".join(["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in HANDSHAKE.items()), "", ""]).encode()

everywhere = pytest.mark.parametrize("way", ["tcp", "tls", "listener", "listener-tls"])
"""Twisted's own port and TLS, and netapp's listener without and with TLS."""


async def until(condition, seconds=10.0):
    """Wait for something to become true."""
    deadline = reactor.seconds() + seconds
    while not condition():
        assert reactor.seconds() < deadline, "it did not happen in time"
        await deferLater(reactor, 0.005)


def after(seconds, call):
    return deferLater(reactor, seconds, call)


class Server:
    """A service at ``/ws`` of a server, and ``/hello`` beside it."""

    def __init__(self, way, service, policy):
        self.registry = Registry()
        self.timers = Timers(reactor)
        self.tls = way.endswith("tls")
        router = Router()
        router.add("/hello", lambda _: Response.text("hello"))
        router.add("/ws", websocket_responder(service, policy, timers=self.timers, registry=self.registry, name="web"))
        factory = Http1Factory(router, timers=self.timers, name="web")
        issued = certificates().server("localhost")
        context = TlsStore(TlsPolicy(certificate=str(issued.certificate), key=str(issued.key)))
        self.listener = None
        if way.startswith("listener"):
            self.listener = Listener(
                "web",
                "tcp:0:interface=127.0.0.1",
                factory,
                reactor=reactor,
                timers=self.timers,
                registry=self.registry,
                context=context if self.tls else None,
                write_buffer=64 * 1024,
            )
            self.listener.startService()
            port = self.listener.port
        else:
            served = TLSMemoryBIOFactory(context, isClient=False, wrappedFactory=factory) if self.tls else factory
            port = self._port = reactor.listenTCP(0, served, interface="127.0.0.1")
        self.port = port.getHost().port

    def stop(self):
        return self.listener.stopService() if self.listener is not None else self._port.stopListening()

    def endpoint(self):
        plain = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        if not self.tls:
            return plain
        authority = Certificate.loadPEM(certificates().ca.read_bytes())
        return wrapClientTLS(optionsForClientTLS("localhost", trustRoot=authority), plain)

    def total(self, name):
        return next(family for family in self.registry if family.name == name).total()

    @property
    def open(self):
        return self.total("netapp_websocket_connections")

    def ends(self):
        """How the listener's connections have ended."""
        family = next(family for family in self.registry if family.name == "netapp_connections_ended_total")
        return {labels[1]: child.value for labels, child in family.children.items() if child.value}


@asynccontextmanager
async def serve(service=None, policy=None, *, way="tcp"):
    server = Server(way, service or EchoService(), policy)
    try:
        yield server
        await until(lambda: server.open == 0)
        await until(lambda: server.listener is None or not server.listener.connections)
        await until(lambda: len(server.timers) == 0)
    finally:
        await server.stop()


class Chatter(WebSocketClientProtocol):
    """autobahn's client, as something to wait for."""

    def __init__(self):
        super().__init__()
        self.opened = Deferred()
        self.gone = Deferred()
        self.messages = []

    def onOpen(self):
        self.opened.callback(self)

    def onMessage(self, payload, isBinary):
        self.messages.append(payload if isBinary else payload.decode())

    def onClose(self, wasClean, code, reason):
        if not self.opened.called:
            self.opened.errback(ConnectionError(reason))
        self.gone.callback((wasClean, code, reason))


async def chat(server, *, deflate=False, **options):
    factory = WebSocketClientFactory(f"ws://localhost:{server.port}/ws", reactor=reactor, **options)
    factory.protocol = Chatter
    if deflate:
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()],
            perMessageCompressionAccept=lambda response: (
                PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None
            ),
        )
    chatter = await server.endpoint().connect(factory)
    return await chatter.opened


class Plain(Protocol):
    """A client that sends what it is told to, and keeps what it hears."""

    def __init__(self):
        self.heard = bytearray()
        self.gone = Deferred()

    def dataReceived(self, data):
        self.heard += data

    def connectionLost(self, reason):
        self.gone.callback(reason.value)

    async def upgrade(self, behind=b""):
        """Make the handshake; leave in ``heard`` what comes behind the response."""
        self.transport.write(REQUEST + behind)
        await until(lambda: b"\r\n\r\n" in self.heard)
        head, _, self.heard = self.heard.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")


async def plain(server):
    return await connectProtocol(server.endpoint(), Plain())


# -- what works


@everywhere
@pytest_twisted.ensureDeferred
async def test_an_echo_and_a_close_handshake_begun_by_the_client(way):
    async with serve(way=way) as server:
        chatter = await chat(server)
        chatter.sendMessage("grüße".encode())
        chatter.sendMessage(bytes(200_000), isBinary=True)
        await until(lambda: len(chatter.messages) == 2)
        assert chatter.messages == ["grüße", bytes(200_000)]
        chatter.sendClose(3001, "done")
        assert await chatter.gone == (True, 3001, "done")


@everywhere
@pytest_twisted.ensureDeferred
async def test_a_close_handshake_begun_by_the_service(way):
    service = Recorder()
    async with serve(service, way=way) as server:
        chatter = await chat(server)
        service.socket.close(4000, "enough")
        assert await chatter.gone == (True, 4000, "enough")
        await until(lambda: service.seen == ["open", (4000, "enough")])


@pytest_twisted.ensureDeferred
async def test_compression_and_a_subprotocol_as_autobahn_negotiates_them():
    policy = WebSocketPolicy(deflate=True, subprotocols=("chat",))
    async with serve(policy=policy) as server:
        chatter = await chat(server, deflate=True, protocols=["other", "chat"])
        assert chatter.websocket_protocol_in_use == "chat"
        assert [type(used).__name__ for used in chatter.websocket_extensions_in_use] == ["PerMessageDeflate"]
        for _ in range(3):
            chatter.sendMessage(b"again and again " * 1000)
        await until(lambda: len(chatter.messages) == 3)
        assert set(chatter.messages) == {"again and again " * 1000}
        chatter.sendClose(1000)
        await chatter.gone


@everywhere
@pytest_twisted.ensureDeferred
async def test_a_connection_that_has_served_requests_is_upgraded(way):
    async with serve(way=way) as server:
        client = await plain(server)
        client.transport.write(
            b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        await until(lambda: b"426" in client.heard and client.heard.count(b"\r\n\r\n") == 2)
        client.heard = bytearray()
        await client.upgrade(behind=text("hello"))
        await until(lambda: read_frames(client.heard))
        assert read_frames(client.heard) == [(1, b"hello")]
        client.transport.write(close(1000))
        await client.gone


@everywhere
@pytest_twisted.ensureDeferred
async def test_many_clients_of_one_service(way):
    class Everybody(WebSocketService):
        def __init__(self):
            self.sockets = set()

        def on_open(self, socket):
            self.sockets.add(socket)

        def on_message(self, socket, message):
            for other in self.sockets:
                other.send(message)

        def on_close(self, socket, code, reason):
            self.sockets.discard(socket)

    service = Everybody()
    async with serve(service, way=way) as server:
        chatters = [await chat(server) for _ in range(10)]
        for number, chatter in enumerate(chatters):
            chatter.sendMessage(b"%d" % number)
        await until(lambda: all(len(chatter.messages) == 10 for chatter in chatters))
        for chatter in chatters:
            chatter.sendClose(1000)
        for chatter in chatters:
            assert (await chatter.gone)[:2] == (True, 1000)
        await until(lambda: not service.sockets)


# -- what must not break anything


@everywhere
@pytest_twisted.ensureDeferred
async def test_a_client_in_the_middle_of_a_message_that_is_too_large_gets_to_read_why(way):
    async with serve(policy=WebSocketPolicy(max_message=100_000), way=way) as server:
        client = await plain(server)
        await client.upgrade()
        client.transport.write(frame(BINARY, bytes(4_000_000)))
        await client.gone
        [(opcode, payload)] = read_frames(client.heard)
        assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))
        if way == "listener":
            await until(server.ends)
            assert server.ends() == {"policy_limit": 1}


@everywhere
@pytest_twisted.ensureDeferred
async def test_a_client_that_breaks_the_protocol_is_told_so(way):
    async with serve(way=way) as server:
        client = await plain(server)
        await client.upgrade(behind=text("x", mask=b""))
        await client.gone
        assert read_frames(client.heard)[0][1][:2] == struct.pack("!H", 1002)
        if way == "listener":
            await until(server.ends)
            assert server.ends() == {"protocol_violation": 1}


@pytest.mark.parametrize("way", ["listener", "listener-tls"])
@pytest_twisted.ensureDeferred
async def test_draining_a_listener_closes_its_websockets_with_1001(way):
    service = Recorder()
    async with serve(service, way=way) as server:
        chatter = await chat(server)
        assert [connection.state for connection in server.listener.connections.values()] == ["open"]
        server.listener.drain()
        clean, code, _ = await chatter.gone
        assert (clean, code) == (True, 1001)
        if way == "listener":
            await until(server.ends)
            assert server.ends() == {"policy_drain": 1}


@everywhere
@pytest_twisted.ensureDeferred
async def test_a_client_that_resets_leaves_nothing_behind(way):
    service = Recorder()
    async with serve(service, way=way) as server:
        client = await plain(server)
        await client.upgrade(behind=text("x", fin=False))
        await until(lambda: service.seen == ["open"])
        client.transport.abortConnection()
        await until(lambda: service.seen == ["open", (1006, "")])
        with suppress(Exception):
            await client.gone


@everywhere
@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_is_not_read_from_and_gets_every_answer_once_it_reads(way):
    message, number = frame(BINARY, bytes(16_000)), 1500

    class Pusher:
        """Pushes messages for as long as they are taken."""

        def __init__(self, client):
            self.client = client
            self.left = number
            self.stuck = False
            client.transport.registerProducer(self, True)
            self.resumeProducing()

        def resumeProducing(self):
            self.stuck = False
            while self.left and not self.stuck:
                self.left -= 1
                self.client.transport.write(message)

        def pauseProducing(self):
            self.stuck = True

        def stopProducing(self):
            self.left = 0

    async with serve(way=way) as server:
        client = await plain(server)
        await client.upgrade()
        client.transport.pauseProducing()
        pusher = Pusher(client)
        before = -1
        while pusher.left != before:  # until the kernel's buffers are full, both ways
            before = pusher.left
            await after(0.3, lambda: None)
        assert 0 < pusher.left < number
        if server.listener is not None:
            [connection] = server.listener.connections.values()
            assert connection.socket_transport.unsent < 64 * 1024 + 2 * READ
        client.transport.resumeProducing()
        answer = 4 + 16_000
        await until(lambda: len(client.heard) >= number * answer or client.gone.called, 60)
        assert len(client.heard) == number * answer
        client.transport.unregisterProducer()
        client.heard = bytearray()
        client.transport.write(close(1000))
        await client.gone


READ = 64 * 1024


@pytest_twisted.ensureDeferred
async def test_a_slow_consumer_of_a_service_that_does_not_wait_is_cut_and_only_it():
    service = Recorder()
    async with serve(service, WebSocketPolicy(close_timeout=0.3)) as server:
        client = await plain(server)
        client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.upgrade()
        client.transport.pauseProducing()
        while service.socket.open:
            service.socket.send(bytes(100_000))
            await after(0, lambda: None)
        await until(lambda: len(service.seen) == 2)
        assert service.seen == ["open", (1013, "reading too slowly")]
        client.transport.abortConnection()
        with suppress(Exception):
            await client.gone
        assert server.open == 0
