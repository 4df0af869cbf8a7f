"""Before a protocol gets a connection: the PROXY protocol, and detection by first bytes. On real sockets."""

import random

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import DETECTORS, Detection, DetectPolicy, Verdict, starts_with
from netapp.listeners.proxyproto import Command, Family, ProxyHeader, ProxyPolicy, encode_v1, encode_v2
from netapp.protocols.calculator import CalculatorFactory
from netapp.protocols.calculator_pb2 import AddRequest, ClientMessage, ServerMessage
from tests.support.listening import Echoing, Recorder, Recording, pause, serving, until

pytestmark = pytest.mark.filterwarnings("error")

CLIENT = ("192.0.2.7", 1111)
CLIENT_6 = ("2001:db8::7", 1111)
SERVER = ("198.51.100.1", 443)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 1111 443\r\n"


@pytest_twisted.async_yield_fixture
async def serve():
    async with serving() as make:
        yield make


def believing(*trusted, **options):
    return ProxyPolicy(trusted=trusted or ("127.0.0.1/32",), **options)


class Knowing(Echoing):
    """Keeps what it is told of its peer."""

    peer = None

    def set_peer(self, peer):
        assert not self.made
        self.peer = peer


def relayed(*, version, source=CLIENT, **options):
    header = ProxyHeader.between(source, SERVER, **options)
    return encode_v1(header) if version == 1 else encode_v2(header)


# PROXY protocol


@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("source", [CLIENT, CLIENT_6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("version", [1, 2])
@pytest_twisted.ensureDeferred
async def test_a_trusted_proxys_client_is_the_client_everywhere(serve, version, source, split):
    here = serve(Recording(Knowing), proxy=believing())
    peer = here.connect()
    sent = relayed(version=version, source=source) + b"hello"
    for piece in [bytes([byte]) for byte in sent] if split else [sent]:
        await peer.send(piece)
        await pause(0)
    assert await peer.read(5) == b"hello"
    kind = IPv6Address if ":" in source[0] else IPv4Address
    assert here.factory.addresses == [kind("TCP", *source)]
    [protocol] = here.factory.made
    assert protocol.transport.getPeer() == kind("TCP", *source)
    assert (protocol.peer.host, protocol.peer.port) == source
    assert protocol.peer.proxy == "127.0.0.1"
    assert protocol.peer.local_port == 443
    peer.close()
    await here.ended("peer_done")
    assert serve.events.of("here")[0]["peer"] == str(protocol.peer)


@pytest_twisted.ensureDeferred
async def test_what_version_2_adds_reaches_the_protocol(serve):
    here = serve(Recording(Knowing), proxy=believing())
    peer = here.connect()
    await peer.send(relayed(version=2, tlvs=((2, b"a.example"), (0xE0, b"own"))) + b"hello")
    assert await peer.read(5) == b"hello"
    assert here.factory.made[0].peer.proxy_tlvs == {2: b"a.example", 0xE0: b"own"}


@pytest_twisted.ensureDeferred
async def test_nobody_else_is_believed(serve):
    """The header of a peer that is not trusted is what it says first, and no more."""
    here = serve(Recording(Knowing), proxy=believing("127.0.0.9/32"))
    peer = here.connect(source="127.0.0.1")
    await peer.send(LINE)
    assert await peer.read(len(LINE)) == LINE
    assert here.factory.addresses[0].host == "127.0.0.1"
    assert here.factory.made[0].peer.proxy == ""


@pytest_twisted.ensureDeferred
async def test_a_proxys_clients_are_held_to_the_rules_and_the_proxy_is_not(serve):
    limits = AdmissionPolicy(max_per_client=1, deny=("192.0.2.8/32", "127.0.0.1/32"))
    here = serve(Recording(), proxy=believing(), admission=limits)

    async def come(source):
        peer = here.connect()
        await peer.send(relayed(version=2, source=(source, 1)) + b"hello")
        try:
            return await peer.read(5)
        except ConnectionResetError:
            return b""

    assert await come("192.0.2.7") == b"hello"
    assert await come("192.0.2.7") == b""
    assert await come("192.0.2.8") == b""
    assert await come("192.0.2.9") == b"hello"
    assert here.total("netapp_connections_refused_total", rule="max_per_client") == 1
    assert here.total("netapp_connections_refused_total", rule="deny") == 1
    assert sorted(here.ends) == ["policy_limit", "policy_limit"]
    assert (here.listener.admission.open, here.listener.admission.clients) == (2, 2)


@pytest_twisted.ensureDeferred
async def test_a_dry_run_only_counts_a_proxys_clients(serve):
    limits = AdmissionPolicy(max_per_client=1, deny=("192.0.2.7/32",), dry_run=True)
    here = serve(Recording(), proxy=believing(), admission=limits)
    for _ in range(2):
        peer = here.connect()
        await peer.send(LINE + b"hello")
        assert await peer.read(5) == b"hello"
    assert here.total("netapp_connections_would_refuse_total", rule="deny") == 2
    assert here.total("netapp_connections_would_refuse_total", rule="max_per_client") == 1


@pytest.mark.parametrize(
    "header",
    [encode_v2(ProxyHeader()), b"PROXY UNKNOWN\r\n", encode_v1(ProxyHeader())],
    ids=["version 2, LOCAL", "version 1, UNKNOWN", "version 1, LOCAL"],
)
@pytest_twisted.ensureDeferred
async def test_a_trusted_proxys_own_connection_is_no_clients(serve, header):
    """Its health checks, and what it cannot name: the proxy's address is on no list that is meant for clients."""
    limits = AdmissionPolicy(max_per_client=1, allow=("192.0.2.0/24",))
    here = serve(Recording(Knowing), proxy=believing(), admission=limits)
    for _ in range(3):
        peer = here.connect()
        await peer.send(header + b"hello")
        assert await peer.read(5) == b"hello"
    assert here.factory.addresses[0].host == "127.0.0.1"
    assert here.factory.made[0].transport.getPeer().host == "127.0.0.1"
    assert here.listener.admission.clients == 0


@pytest_twisted.ensureDeferred
async def test_where_no_header_is_required_one_without_is_a_client_itself(serve):
    limits = AdmissionPolicy(max_per_client=1)
    here = serve(Recording(), proxy=believing(required=False, timeout=0.1), admission=limits)
    await here.converse()
    peer = here.connect()
    await peer.send(b"hello")
    assert await peer.rest() == b""
    silent = here.connect(source="127.0.0.1")
    assert await silent.rest() == b""
    assert here.total("netapp_connections_refused_total", rule="max_per_client") == 2


@pytest_twisted.ensureDeferred
async def test_where_no_header_is_required_a_silent_peer_is_served_in_the_end(serve):
    class Greeting(Recorder):
        def connectionMade(self):
            super().connectionMade()
            self.transport.write(b"welcome")

    here = serve(Recording(Greeting), proxy=believing(required=False, timeout=0.1))
    peer = here.connect()
    assert await peer.read(7) == b"welcome"


@pytest_twisted.ensureDeferred
async def test_a_client_on_a_unix_socket_behind_the_proxy_has_no_address(serve):
    here = serve(Recording(Knowing), proxy=believing(), admission=AdmissionPolicy(max_per_client=1))
    header = ProxyHeader(command=Command.PROXY, family=Family.UNIX, source_path=b"/client", destination_path=b"/server")
    for _ in range(2):
        peer = here.connect()
        await peer.send(encode_v2(header) + b"hello")
        assert await peer.read(5) == b"hello"
    assert here.factory.addresses == [UNIXAddress(None)] * 2
    assert here.factory.made[0].transport.getPeer() == UNIXAddress(None)
    assert str(here.factory.made[0].peer) == "unix"


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 192.0.2.7 ", relayed(version=2)[:20]])
@pytest_twisted.ensureDeferred
async def test_a_header_that_does_not_come_ends_the_connection(serve, begun):
    here = serve(Recording(), proxy=believing(timeout=0.1))
    peer = here.connect()
    await peer.send(begun)
    assert await peer.rest() == b""
    await here.ended("policy_deadline")
    assert here.factory.addresses == []
    assert serve.events.of("here")[0]["why"] == "proxy_timeout"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 192.0.2.7\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x31", bytes(100)]
)
@pytest_twisted.ensureDeferred
async def test_garbage_from_a_trusted_peer_ends_the_connection(serve, garbage):
    here = serve(Recording(), proxy=believing())
    peer = here.connect()
    await peer.send(garbage)
    assert await peer.rest() == b""
    await here.ended("protocol_violation")
    assert here.factory.addresses == []


# Detection


def detecting(*, fallback="echo", timeout=5.0, on_timeout="fallback", names=("http1", "calculator_varint")):
    policy = DetectPolicy(timeout=timeout, on_timeout=on_timeout)
    return Detection([(name, DETECTORS.named(name)) for name in names], fallback, policy)


class Named(Recording):
    """Answers with its name first."""

    def __init__(self, name):
        class Naming(Echoing):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(name.encode() + b":")

        super().__init__(Naming)


def factories():
    return {"http1": Named("http1"), "echo": Named("echo"), "calculator_varint": CalculatorFactory()}


@pytest_twisted.ensureDeferred
async def test_one_port_serves_each_by_its_first_bytes_however_they_are_split(serve):
    here = serve(detection=detecting(), factories=factories())
    chance = random.Random(2026)
    for sent, expected in [
        (b"GET / HTTP/1.1\r\n\r\n", b"http1:GET / HTTP/1.1\r\n\r\n"),
        (b"\x00\x01 what is this", b"echo:\x00\x01 what is this"),
    ]:
        for _ in range(5):
            peer = here.connect()
            left = sent
            while left:
                size = chance.randint(1, 4)
                await peer.send(left[:size])
                left = left[size:]
                await pause(0)
            assert await peer.read(len(expected)) == expected
    assert {event["protocol"] for event in serve.events.of("here")} <= {"http1", "echo"}


@pytest_twisted.ensureDeferred
async def test_the_calculator_is_told_from_the_rest(serve):
    message = ClientMessage(add_request=AddRequest(a=2, b=3)).SerializeToString()
    here = serve(detection=detecting(), factories=factories())
    peer = here.connect()
    for byte in bytes([len(message)]) + message:
        await peer.send(bytes([byte]))
        await pause(0)
    [size] = await peer.read(1)
    assert ServerMessage.FromString(await peer.read(size)).add_response.result == 5


@pytest_twisted.ensureDeferred
async def test_a_silent_peer_gets_the_fall_back_in_time(serve):
    here = serve(detection=detecting(timeout=0.1), factories=factories())
    silent, hesitant = here.connect(), here.connect()
    await hesitant.send(b"GE")
    assert await silent.read(5) == b"echo:"
    assert await hesitant.read(7) == b"echo:GE"


@pytest.mark.parametrize("options", [{"fallback": None}, {"on_timeout": "close"}])
@pytest_twisted.ensureDeferred
async def test_a_silent_peer_is_closed_where_there_is_nobody_for_it(serve, options):
    here = serve(detection=detecting(timeout=0.1, **options), factories=factories())
    peer = here.connect()
    assert await peer.rest() == b""
    await here.ended("policy_deadline")


@pytest_twisted.ensureDeferred
async def test_bytes_that_are_nobodys_are_a_violation_where_there_is_no_fall_back(serve):
    here = serve(detection=detecting(fallback=None), factories=factories())
    peer = here.connect()
    await peer.send(b"\x00\x01\x02\x03")
    assert await peer.rest() == b""
    await here.ended("protocol_violation")


@pytest_twisted.ensureDeferred
async def test_detection_comes_behind_the_proxys_header(serve):
    here = serve(detection=detecting(), factories=factories(), proxy=believing())
    peer = here.connect()
    await peer.send(LINE + b"GET / HTTP/1.1\r\n")
    assert await peer.read(22) == b"http1:GET / HTTP/1.1\r\n"


@pytest_twisted.ensureDeferred
async def test_a_detector_of_ones_own(serve):
    def redis(data):
        return starts_with(data, b"*1\r\n")

    made = Named("redis")
    here = serve(detection=Detection([("redis", redis)], None), factories={"redis": made})
    peer = here.connect()
    await peer.send(b"*1\r\n$4\r\nPING\r\n")
    assert await peer.read(6 + 14) == b"redis:*1\r\n$4\r\nPING\r\n"


@pytest_twisted.ensureDeferred
async def test_a_detector_that_fails_late_costs_only_that_connection(serve):
    """When its time is over, nobody but the deadline is there to notice."""

    def fails_in_the_end(data, asked=[]):  # noqa: B006 - what it remembers
        asked.append(data)
        if len(asked) > 1:
            raise RuntimeError("a defect")
        return Verdict.MORE

    serve.events.expected = 1
    detection = Detection([("other", fails_in_the_end)], "echo", DetectPolicy(timeout=0.1))
    here = serve(detection=detection, factories=factories() | {"other": Recording()})
    peer = here.connect()
    assert await peer.rest() == b""
    await here.ended("internal")


# Ends in the middle


STAGES = {
    "proxy": {"proxy": believing()},
    "proxy, begun": {"proxy": believing()},
    "detect": {"detection": detecting()},
    "detect, begun": {"detection": detecting()},
}


@pytest.mark.parametrize("way", ["close", "reset", "finish"])
@pytest.mark.parametrize("stage", STAGES)
@pytest_twisted.ensureDeferred
async def test_a_peer_that_leaves_before_it_is_served_has_aborted(serve, stage, way):
    here = serve(Recording(), **STAGES[stage], factories=factories())
    peer = here.connect()
    if "begun" in stage:
        await peer.send(b"PRO" if "proxy" in stage else b"GE")
    await until(lambda: here.listener.connections)
    await pause(0.01)
    getattr(peer, way)()
    await here.ended("peer_aborted")
    assert serve.events.of("here")[0]["protocol"] == stage.partition(",")[0]


@pytest.mark.parametrize("stage", ["proxy", "detect"])
@pytest_twisted.ensureDeferred
async def test_who_is_not_there_yet_when_a_drain_begins_is_served_and_then_told(serve, stage):
    class Drained(Echoing):
        def drain(self):
            self.transport.write(b", and goodbye")
            self.transport.loseConnection()

    made = factories() | {"echo": Recording(Drained)}
    here = serve(made["echo"], **STAGES[stage], factories=made)
    peer = here.connect()
    await until(lambda: here.listener.connections)
    here.listener.drain()
    await peer.send(LINE + b"hello" if stage == "proxy" else b"\x00\x01\x02\x03\x04")
    assert (await peer.rest()).endswith(b", and goodbye")
    await here.ended("local_done")


@pytest.mark.parametrize("stage", ["proxy", "detect"])
@pytest_twisted.ensureDeferred
async def test_who_is_not_there_yet_can_be_cut(serve, stage):
    here = serve(Recording(), **STAGES[stage], factories=factories())
    peer = here.connect()
    [connection] = (await until(lambda: here.listener.connections)).values()
    connection.wind_down()
    connection.cut()
    assert await peer.rest() == b""
    await here.ended("policy_drain")
