"""TLS on a listener: handshakes, identities, reloads, goodbyes, and what comes before and within. On real sockets."""

import hashlib
import io
import random
import shutil
import ssl

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.protocols.portforward import ProxyFactory
from zope.interface import implementer

from netapp.errors import ProtocolViolation
from netapp.http import Response
from netapp.listeners.detect import DETECTORS, Detection, DetectPolicy
from netapp.listeners.proxyproto import ProxyPolicy
from netapp.listeners.tls import TlsPolicy, TlsStore
from netapp.protocols.calculator import CalculatorFactory
from netapp.protocols.calculator_pb2 import AddRequest, ClientMessage, ServerMessage
from netapp.protocols.http1 import Http1Factory
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers
from tests.support.certificates import certificates, client_context
from tests.support.listening import Echoing, Recorder, Recording, TlsPeer, pause, serving, until

pytestmark = pytest.mark.filterwarnings(
    "error",
    "ignore:Passing pyOpenSSL:DeprecationWarning",  # what Twisted does with the files of an ssl: endpoint
)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 1111 443\r\n"
SEED = 20_261_121


@pytest_twisted.async_yield_fixture
async def serve():
    async with serving() as make:
        yield make


def store(*names, **policy):
    """Certificates in service for ``names``, or for a.example."""
    issued = certificates().server(*(names or ("a.example",)))
    defaults = {"certificate": str(issued.certificate), "key": str(issued.key), "alpn": (), "reload_interval": 0.0}
    return TlsStore(TlsPolicy(**(defaults | policy)))


def fingerprint(client):
    return hashlib.sha256(client.tls.getpeercert(binary_form=True)).hexdigest()


async def converse(client):
    await client.send(b"hello")
    assert await client.read(5) == b"hello"


# Handshakes


@pytest_twisted.ensureDeferred
async def test_a_conversation_within_tls(serve):
    here = serve(Recording(), context=store())
    client = await here.shake_hands(client_context())
    await converse(client)
    [protocol] = here.factory.made
    [connection] = here.listener.connections.values()
    assert protocol.transport.wrappedProtocol is protocol, "nothing stands between TLS and the protocol"
    assert connection.as_dict(0)["tls"] == "TLSv1.3"
    assert here.total("netapp_tls_handshakes_total", outcome="ok") == 1


@pytest.mark.parametrize("said", ["nothing", "half a hello", "hello"])
@pytest.mark.parametrize("way", ["a tls table", "an ssl: endpoint"])
@pytest_twisted.ensureDeferred
async def test_a_handshake_has_its_time(serve, way, said):
    here = serve_either(serve, way, handshake_timeout=0.2)
    client = TlsPeer(here.connect(), client_context())
    hello = client.hello()
    await client.peer.send({"nothing": b"", "half a hello": hello[:100], "hello": hello}[said])
    await client.peer.rest()
    await here.ended("policy_deadline")
    [event] = serve.events.of("here")
    assert (event["why"], event["protocol"]) == ("handshake_timeout", "handshake")
    assert here.total("netapp_tls_handshakes_total", outcome="failed") == 1
    assert here.total("netapp_tls_handshakes_total", outcome="ok") == 0


def serve_either(serve, way, factory=None, **options):
    if way == "a tls table":
        return serve(factory or Recording(), context=store(), **options)
    both = certificates().server("a.example").both
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={both}:certKey={both}"
    return serve(factory or Recording(), endpoint=endpoint, **options)


@pytest_twisted.ensureDeferred
async def test_an_ssl_endpoint_is_served_like_a_tls_table(serve):
    here = serve_either(serve, "an ssl: endpoint")
    client = await here.shake_hands(client_context())
    await converse(client)
    assert here.total("netapp_tls_handshakes_total", outcome="ok") == 1
    assert here.listener.context is not None


@pytest_twisted.ensureDeferred
async def test_plain_text_on_a_tls_port_is_a_violation(serve):
    here = serve(Recording(), context=store())
    peer = here.connect()
    await peer.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    await peer.rest()
    await here.ended("protocol_violation")
    assert "http request" in serve.events.of("here")[0]["why"]
    assert here.factory.made == []
    assert here.total("netapp_tls_handshakes_total", outcome="failed") == 1


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("said", ["nothing", "half a hello", "hello"])
@pytest_twisted.ensureDeferred
async def test_a_peer_that_leaves_in_the_handshake_has_aborted(serve, said, way):
    here = serve(Recording(), context=store())
    client = TlsPeer(here.connect(), client_context())
    hello = client.hello()
    await client.peer.send({"nothing": b"", "half a hello": hello[:100], "hello": hello}[said])
    await until(lambda: here.listener.connections)
    if said == "hello":
        await client.peer.some()
    getattr(client.peer, way)()
    await here.ended("peer_aborted")
    assert here.total("netapp_tls_handshakes_total", outcome="failed") == 1


@pytest_twisted.ensureDeferred
async def test_the_certificate_is_the_one_that_the_client_asked_for(serve, tmp_path):
    names = ("a.example", "b.example")
    for name in names:
        shutil.copy(certificates().server(name).both, tmp_path / f"{name}.pem")
    here = serve(Recording(), context=store(certificate="", key="", directory=str(tmp_path)))
    for name in names:
        client = await here.shake_hands(client_context(), name)
        assert fingerprint(client) == certificates().server(name).fingerprint


@pytest_twisted.ensureDeferred
async def test_new_certificates_are_served_and_open_connections_go_on(serve, tmp_path):
    served = tmp_path / "served.pem"
    old, new = (certificates().server("a.example", generation=number) for number in (1, 2))
    served.write_bytes(old.both.read_bytes())
    context = store(certificate=str(served), key=str(served))
    here = serve(Recording(), context=context)
    before = await here.shake_hands(client_context())
    served.write_bytes(new.both.read_bytes())
    assert context.reload()
    after = await here.shake_hands(client_context())
    assert (fingerprint(before), fingerprint(after)) == (old.fingerprint, new.fingerprint)
    await converse(before)
    await converse(after)


def http(responder):
    return Http1Factory(responder, clock=reactor, timers=Timers(reactor), registry=Registry(), name="here")


@pytest_twisted.ensureDeferred
async def test_a_clients_identity_reaches_its_requests(serve):
    seen = []

    def responder(request):
        seen.append(request.peer.tls)
        return Response(200, body=request.peer.tls.subject.encode())

    here = serve(http(responder), context=store(client_ca=str(certificates().ca), client_auth="required"))
    identity = certificates().client("somebody@a.example", common_name="somebody")
    client = await here.shake_hands(client_context(identity))
    await client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    answer = await client.read(10_000)
    assert b"CN=somebody" in answer
    assert seen[0].names == ("email:somebody@a.example",)
    assert seen[0].fingerprint == identity.fingerprint
    assert seen[0].server_name == "a.example"


@pytest_twisted.ensureDeferred
async def test_a_client_without_the_certificate_that_is_required_is_not_served(serve):
    here = serve(Recording(), context=store(client_ca=str(certificates().ca), client_auth="required"))
    client = await here.shake_hands(client_context())  # in TLS 1.3 the server's verdict comes after
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        await client.read(1)
    await here.ended("protocol_violation")
    assert here.factory.made == []


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_waits_for_the_handshake_is_told_of_it(serve):
    @implementer(IHandshakeListener)
    class Waiting(Echoing):
        told = False

        def handshakeCompleted(self):
            assert self.made
            self.told = True

    here = serve(Recording(Waiting), context=store())
    await converse(await here.shake_hands(client_context()))
    assert here.factory.made[0].told


@pytest_twisted.ensureDeferred
async def test_a_handshake_is_counted_once_whatever_becomes_of_its_connection(serve):
    class Choosy(Factory):
        noisy = False

        def buildProtocol(self, addr):
            return None

    here = serve(Choosy(), context=store())
    client = await here.shake_hands(client_context())
    await client.rest()
    await here.ended("policy_limit")
    assert here.total("netapp_tls_handshakes_total", outcome="ok") == 1
    assert here.total("netapp_tls_handshakes_total", outcome="failed") == 0


@pytest_twisted.ensureDeferred
async def test_a_handshake_under_way_when_a_drain_begins_is_finished_and_served(serve):
    class Drained(Echoing):
        draining = False

        def drain(self):
            self.draining = True

        def dataReceived(self, data):
            super().dataReceived(data)
            if self.draining:
                self.transport.loseConnection()

    here = serve(Recording(Drained), context=store())
    client = TlsPeer(here.connect(), client_context())
    await client.peer.send(client.hello())
    await until(lambda: here.listener.connections)
    stopped = here.listener.stop_listening()
    here.listener.drain()
    await client.handshake()
    await converse(client)
    assert await client.read(1) == b""
    await client.goodbye()
    await here.ended("local_done")
    await stopped


# Before and within


@pytest_twisted.ensureDeferred
async def test_the_proxys_header_comes_before_tls(serve):
    here = serve(Recording(), context=store(), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    client = TlsPeer(here.connect(), client_context())
    await client.peer.send(LINE + client.hello())
    await client.handshake()
    await converse(client)
    assert here.factory.addresses[0].host == "192.0.2.7"
    assert here.factory.made[0].transport.getPeer().host == "192.0.2.7"
    await client.goodbye()
    await here.ended("peer_done")
    assert serve.events.of("here")[0]["peer"] == "192.0.2.7:1111"


def everything(serve, **options):
    """TLS, HTTP, the calculator and an echo on one port, with TLS and without."""
    routes = [(name, DETECTORS.named(name)) for name in ("tls", "http1", "calculator_varint")]
    factories = {
        "http1": http(lambda _: Response(200, body=b"served")),
        "calculator_varint": CalculatorFactory(),
        "echo": Recording(),
    }
    policy = DetectPolicy(timeout=options.pop("timeout", 5.0))
    return serve(detection=Detection(routes, "echo", policy), factories=factories, context=store(), **options)


async def in_pieces(send, data, chance):
    while data:
        size = chance.randint(1, 7)
        await send(data[:size])
        data = data[size:]
        await pause(0)


@pytest.mark.parametrize("way", ["plain", "within TLS"])
@pytest_twisted.ensureDeferred
async def test_one_port_serves_everything_with_tls_and_without_it(serve, way):
    here = everything(serve)
    chance = random.Random(SEED)
    message = ClientMessage(add_request=AddRequest(a=2, b=3)).SerializeToString()

    async def open_one():
        if way == "plain":
            return here.connect()
        client = TlsPeer(here.connect(), client_context())
        await in_pieces(client.peer.send, client.hello(), chance)
        await client.handshake()
        return client

    web, calculator, echo = [await open_one() for _ in range(3)]
    await in_pieces(web.send, b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", chance)
    assert b"\r\n\r\nserved" in await web.read(10_000)
    await in_pieces(calculator.send, bytes([len(message)]) + message, chance)
    [size] = await calculator.read(1)
    assert ServerMessage.FromString(await calculator.read(size)).add_response.result == 5
    await in_pieces(echo.send, b"\x00\x00 nobody's", chance)
    assert await echo.read(11) == b"\x00\x00 nobody's"
    kinds = {connection.kind for connection in here.listener.connections.values()}
    assert kinds | {event["protocol"] for event in serve.events.of("here")} == {"http1", "calculator_varint", "echo"}


@pytest_twisted.ensureDeferred
async def test_who_says_nothing_within_tls_gets_the_fall_back_in_time(serve):
    here = everything(serve, timeout=0.1)
    client = await here.shake_hands(client_context())
    await until(lambda: here.listener.factories["echo"].made)
    await converse(client)


@pytest_twisted.ensureDeferred
async def test_what_comes_together_stays_in_order_whatever_is_paused(serve):
    class Pausing(Echoing):
        def connectionMade(self):
            super().connectionMade()
            self.transport.pauseProducing()

    here = everything(serve)
    here.listener.factories["echo"].protocol = Pausing
    client = await here.shake_hands(client_context())
    await client.send_records(b"\x00\x01\x02\x03", b"\x04\x05", b"\x06")
    await until(lambda: here.listener.factories["echo"].made)
    here.listener.factories["echo"].made[0].transport.resumeProducing()
    assert await client.read(7) == b"\x00\x01\x02\x03\x04\x05\x06"


@pytest_twisted.ensureDeferred
async def test_who_closes_while_it_has_paused_is_not_given_what_came(serve, monkeypatch):
    monkeypatch.setattr("netapp.listeners.transport.GOODBYE", 0.05)

    class Leaving(Recorder):
        def connectionMade(self):
            super().connectionMade()
            self.transport.pauseProducing()
            self.transport.loseConnection()

    here = serve(Recording(Leaving), context=store())
    client = TlsPeer(here.connect(), client_context())
    await client.handshake(b"is anybody there?")
    await here.ended("local_done")
    [protocol] = here.factory.made
    assert protocol.received == b""
    assert protocol.reason is not None


@pytest_twisted.ensureDeferred
async def test_a_client_whose_certificate_cannot_be_read_is_nobody(serve):
    here = serve(Recording(), context=store(client_ca=str(certificates().ca), client_auth="required"))
    unreadable = certificates().signed(raw_names=b"\x30\x03\x82\x01\xff")
    client = await here.shake_hands(client_context(unreadable))
    await client.rest()
    await here.ended("protocol_violation")
    assert "cannot be read" in serve.events.of("here")[0]["why"]
    assert here.total("netapp_tls_handshakes_total", outcome="failed") == 1


@pytest_twisted.ensureDeferred
async def test_there_is_no_second_tls_within_tls(serve):
    """Its first bytes are the fall-back's."""
    here = everything(serve)
    client = await here.shake_hands(client_context())
    hello = TlsPeer(client.peer, client_context()).hello()
    await client.send(hello)
    assert await client.read(len(hello)) == hello


# Ends


@pytest_twisted.ensureDeferred
async def test_a_peer_that_says_goodbye_is_done(serve):
    here = serve(Recording(), context=store())
    client = await here.shake_hands(client_context())
    await converse(client)
    await client.goodbye()
    await here.ended("peer_done")


@pytest_twisted.ensureDeferred
async def test_a_peer_that_closes_without_goodbye_has_aborted(serve):
    """Whoever is between may have cut it (RFC 8446 §6.1)."""
    here = serve(Recording(), context=store())
    client = await here.shake_hands(client_context())
    await converse(client)
    client.peer.close()
    await here.ended("peer_aborted")
    assert here.factory.made[0].reason is not None


@pytest_twisted.ensureDeferred
async def test_a_peer_that_resets_has_reset(serve):
    here = serve(Recording(), context=store())
    client = await here.shake_hands(client_context())
    await converse(client)
    client.peer.reset()
    await here.ended("peer_reset")


@pytest_twisted.ensureDeferred
async def test_a_record_that_does_not_decrypt_is_a_violation(serve):
    here = serve(Recording(), context=store())
    client = await here.shake_hands(client_context())
    await converse(client)
    await client.peer.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    await client.peer.rest()
    await here.ended("protocol_violation")


@pytest.mark.parametrize("answer", ["a goodbye", "a close", "nothing"])
@pytest_twisted.ensureDeferred
async def test_our_goodbye_ends_the_connection_whatever_the_peer_answers(serve, monkeypatch, answer):
    """Twisted's own TLS waits for the answer for ever; each such peer would keep a place."""
    monkeypatch.setattr("netapp.listeners.transport.GOODBYE", 0.1)
    here = serve(Recording(), context=store())
    client = await here.shake_hands(client_context())
    await converse(client)
    here.factory.made[0].transport.loseConnection()
    assert await client.read(1) == b""
    if answer == "a goodbye":
        await client.goodbye()
    elif answer == "a close":
        client.peer.close()
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_a_goodbye_waits_until_everything_is_sent(serve, monkeypatch):
    monkeypatch.setattr("netapp.listeners.transport.GOODBYE", 0.1)
    here = serve(Recording(Recorder), context=store())
    client = await here.shake_hands(client_context(), receive_buffer=65536)
    protocol = await here.factory.one()
    sent = random.Random(SEED).randbytes(6_000_000)
    protocol.transport.write(sent)
    protocol.transport.loseConnection()
    await pause(0.3)
    assert await client.read(len(sent)) == sent
    assert await client.read(1) == b""
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_a_goodbye_waits_for_a_producer_that_is_not_done(serve, monkeypatch):
    monkeypatch.setattr("netapp.listeners.transport.GOODBYE", 0.05)
    content = random.Random(SEED).randbytes(3_000_000)

    class Sending(Recorder):
        def dataReceived(self, data):
            FileSender().beginFileTransfer(io.BytesIO(content), self.transport)
            self.transport.loseConnection()

    here = serve(Recording(Sending), context=store())
    client = await here.shake_hands(client_context(), receive_buffer=65536)
    await client.send(b"all of it, please")
    await pause(0.2)
    assert await client.read(len(content)) == content
    assert await client.read(1) == b""
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_read_is_cut(serve):
    here = serve(Recording(Recorder), context=store(), write_timeout=0.2)
    await here.shake_hands(client_context(), receive_buffer=4096)
    protocol = await here.factory.one()
    protocol.transport.write(bytes(8_000_000))
    protocol.transport.loseConnection()
    await here.ended("policy_deadline")


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_told_goodbye_and_closed(serve, monkeypatch):
    monkeypatch.setattr("netapp.listeners.connection.LAST_WORD", 0.1)
    here = serve(Recording(), context=store(), idle_timeout=0.2)
    client = await here.shake_hands(client_context())
    await converse(client)
    assert await client.read(1) == b""
    await here.ended("policy_deadline")


@pytest_twisted.ensureDeferred
async def test_what_a_protocol_declares_is_how_it_ended(serve):
    class Strict(Recorder):
        ending = None

        def dataReceived(self, data):
            self.ending = ProtocolViolation("not what I speak")
            self.transport.loseConnection()

    here = serve(Recording(Strict), context=store())
    client = await here.shake_hands(client_context())
    await client.send(b"?")
    assert await client.read(1) == b""
    await client.goodbye()
    await here.ended("protocol_violation")


@pytest.mark.parametrize("where", ["buildProtocol", "connectionMade", "dataReceived", "connectionLost"])
@pytest_twisted.ensureDeferred
async def test_a_factory_that_raises_within_tls_costs_only_that_connection(serve, where):
    """More than one record comes at once: a protocol that has failed over the first must not meet the second."""

    class Raises(Echoing):
        def connectionMade(self):
            super().connectionMade()
            self.fail("connectionMade")

        def dataReceived(self, data):
            self.fail("dataReceived")
            super().dataReceived(data)

        def connectionLost(self, reason):
            super().connectionLost(reason)
            self.fail("connectionLost")

        def fail(self, at):
            if self.factory.where == at:
                raise RuntimeError("a defect")

    class Raising(Recording):
        where = ""

        def buildProtocol(self, addr):
            if self.where == "buildProtocol":
                raise RuntimeError("a defect")
            return super().buildProtocol(addr)

    serve.events.expected = 1
    here = serve(Raising(Raises), context=store())
    neighbour = await here.shake_hands(client_context())
    await converse(neighbour)
    here.factory.where = where
    client = TlsPeer(here.connect(), client_context())
    await client.handshake(b"none")
    await client.send_records(b"one", b"two", b"three")
    if where == "connectionLost":
        assert await client.read(15) == b"noneonetwothree"
        client.peer.reset()
    else:
        await client.rest()
    await here.ended("internal")
    here.factory.where = ""
    assert all(made.reason is not None for made in here.factory.made[1:])
    assert len(here.listener._tls_factory.protocols) == 1
    await converse(neighbour)


@pytest_twisted.ensureDeferred
async def test_twisteds_port_forwarding_works_behind_tls(serve):
    """It pauses until its own connection is made; what came with the end of the handshake has to wait, too."""
    behind = serve(Recording(), name="behind")
    here = serve(ProxyFactory(*behind.address), context=store())
    for _ in range(5):
        client = TlsPeer(here.connect(), client_context())
        await client.handshake(b"hello")
        assert await client.read(5) == b"hello"
        client.peer.close()
    await behind.ended(*["peer_done"] * 5)


@pytest_twisted.ensureDeferred
async def test_a_pull_producer_sends_all_it_has_within_tls(serve):
    content = random.Random(SEED).randbytes(2_000_001)

    class Sending(Recorder):
        def dataReceived(self, data):
            done = FileSender().beginFileTransfer(io.BytesIO(content), self.transport)
            done.addCallback(lambda _: self.transport.loseConnection())

    here = serve(Recording(Sending), context=store())
    client = await here.shake_hands(client_context(), receive_buffer=65536)
    await client.send(b"all of it, please")
    assert await client.read(len(content) + 1) == content
    await client.goodbye()
    await here.ended("local_done")


# TLS that the protocol starts by itself


class Starting(LineReceiver):
    """Plain until told to start TLS, then an echo of lines."""

    ending = None

    def connectionMade(self):
        self.factory.made.append(self)
        self.lost = None

    def lineReceived(self, line):
        if line == b"STARTTLS":
            self.transport.write(b"220 go ahead\r\n")
            self.transport.startTLS(self.factory.context)
        elif line == b"flood":
            self.transport.write(bytes(8_000_000))
        elif line == b"quit":
            self.transport.loseConnection()
        elif line == b"fail":
            raise RuntimeError("a defect")
        else:
            self.sendLine(line)

    def connectionLost(self, reason):
        assert self.lost is None
        self.lost = reason.value


def starting():
    factory = Recording(Starting)
    factory.context = store()
    return factory


async def start_tls(here, **options):
    peer = here.connect(**options)
    await peer.send(b"plain\r\nSTARTTLS\r\n")
    assert await peer.read(21) == b"plain\r\n220 go ahead\r\n"
    client = TlsPeer(peer, client_context())
    await client.handshake()
    return client


@pytest_twisted.ensureDeferred
async def test_a_protocol_may_start_tls_by_itself(serve):
    here = serve(starting())
    client = await start_tls(here)
    await client.send(b"secret\r\n")
    assert await client.read(8) == b"secret\r\n"
    [connection] = here.listener.connections.values()
    assert connection.protocol is here.factory.made[0]
    await client.goodbye()
    await here.ended("peer_done")
    assert here.factory.made[0].lost is not None


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (b"", "peer_aborted"),
        (b"quit\r\n", "local_done"),
        (b"flood\r\n", "policy_deadline"),
        (b"fail\r\nfail\r\n", "internal"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_tls_that_a_protocol_started_ends_as_the_listeners_does(serve, monkeypatch, said, end):
    monkeypatch.setattr("netapp.listeners.transport.GOODBYE", 0.1)
    serve.events.expected = 1 if end == "internal" else 0
    here = serve(starting(), write_timeout=0.2)
    client = await start_tls(here, receive_buffer=4096)
    await client.send_records(*said.splitlines(keepends=True))
    if not said:
        client.peer.close()
    await here.ended(end)
    assert here.factory.made[0].lost is not None


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_cannot_start_tls_is_told_of_its_end(serve):
    @implementer(IOpenSSLServerConnectionCreator)
    class Broken:
        def serverConnectionForTLS(self, protocol):
            raise RuntimeError("a defect")

    serve.events.expected = 1
    here = serve(starting())
    here.factory.context = Broken()
    peer = here.connect()
    await peer.send(b"STARTTLS\r\n")
    await peer.rest()
    await here.ended("internal")
    assert here.factory.made[0].lost is not None


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_a_protocol_started_and_that_fails_is_a_violation(serve):
    here = serve(starting())
    peer = here.connect()
    await peer.send(b"STARTTLS\r\n")
    assert await peer.read(14) == b"220 go ahead\r\n"
    await peer.send(b"but this is still plain text\r\n")
    await peer.rest()
    await here.ended("protocol_violation")
