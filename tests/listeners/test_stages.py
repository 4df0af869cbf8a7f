"""The stages before a protocol: their order, their deadlines, their ends. On a clock."""

import ssl

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import DETECTORS, Detection, DetectPolicy, Verdict
from netapp.listeners.proxyproto import ProxyHeader, ProxyPolicy, encode_v2
from netapp.listeners.stages import _openssl_text, tls_verdict
from netapp.listeners.tls import TlsPolicy, TlsStore
from tests.support.certificates import certificates, client_context
from tests.support.listening import Echoing, Events, Recorder, Recording
from tests.support.sockets import World

LINE = b"PROXY TCP4 203.0.113.9 198.51.100.1 1111 443\r\n"
PROXY = ProxyPolicy(trusted=("192.0.2.0/24",), timeout=3.0)


@pytest.fixture(autouse=True)
def events():
    with Events() as seen:
        yield seen
        assert len(seen.failures) == seen.expected, seen.failures


def store():
    issued = certificates().server("a.example")
    policy = TlsPolicy(certificate=str(issued.certificate), key=str(issued.key), alpn=(), reload_interval=0.0)
    return TlsStore(policy)


def detection(*names, fallback="echo", timeout=5.0):
    return Detection([(name, DETECTORS.named(name)) for name in names], fallback, DetectPolicy(timeout=timeout))


FACTORIES = ("echo", "http1")


def detecting(*names, **options):
    return {
        "detection": detection(*names, **options),
        "factories": {name: Recording(Echoing) for name in FACTORIES},
    }


class Client:
    """TLS at the other end of a socket in memory."""

    def __init__(self, world, accepted):
        self.world, self.accepted = world, accepted
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self._in, self._out, server_hostname="a.example")

    def carry(self):
        """Carry what waits, both ways."""
        data = self._out.read()
        if data:
            self.accepted.feed(data)
        self.world.loop.turn()
        self._in.write(self.accepted.sent)
        self.accepted.sent = b""

    def handshake(self):
        for _ in range(10):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.carry()
            else:
                self.carry()
                return self
        raise AssertionError("the handshake is stuck")

    def read(self):
        self.carry()
        return self.tls.read(1000)


# Order


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, ["open"]),
        ({"proxy": PROXY}, ["proxy", "open"]),
        (detecting("http1"), ["detect", "open"]),
        ({"proxy": PROXY, **detecting("http1")}, ["proxy", "detect", "open"]),
    ],
    ids=["none", "proxy", "detection", "proxy and detection"],
)
def test_the_stages_come_in_their_order(options, stages):
    world = World(Recording(Echoing), **options)
    accepted, connection = world.connect()
    seen = [connection.state]
    for piece in [LINE, b"GET / HTTP/1.1\r\n"] if "proxy" in options else [b"GET / HTTP/1.1\r\n"]:
        accepted.feed(piece)
        world.loop.turn()
        if connection.state != seen[-1]:
            seen.append(connection.state)
    assert seen == stages
    assert accepted.sent == b"GET / HTTP/1.1\r\n"


@pytest.mark.parametrize("split", [1, 7, 1000])
def test_everything_at_once_or_byte_by_byte_is_the_same(split):
    world = World(proxy=PROXY, **detecting("http1"))
    accepted, connection = world.connect()
    sent = LINE + b"GET / HTTP/1.1\r\n"
    for start in range(0, len(sent), split):
        accepted.feed(sent[start : start + split])
        world.loop.turn()
    assert accepted.sent == b"GET / HTTP/1.1\r\n"
    assert (connection.kind, connection.peer.host) == ("http1", "203.0.113.9")


@pytest.mark.parametrize("within", [True, False], ids=["told from the rest", "alone"])
def test_within_tls_the_protocol_is_detected_once_more(within):
    names = ("tls", "http1") if within else ("http1",)
    world = World(context=store(), proxy=PROXY, **detecting(*names))
    accepted, connection = world.connect()
    accepted.feed(LINE)
    world.loop.turn()
    client = Client(world, accepted).handshake()
    assert connection.state == "detect"
    client.tls.write(b"GET / HTTP/1.1\r\n")
    assert client.read() == b"GET / HTTP/1.1\r\n"
    assert (connection.kind, connection.peer.tls.version) == ("http1", "TLSv1.3")


def test_where_there_is_only_a_fall_back_nothing_is_waited_for():
    world = World(**detecting())
    assert world.connect()[1].kind == "echo"


# Deadlines


@pytest.mark.parametrize(
    ("options", "seconds", "rule"),
    [
        ({"proxy": PROXY}, 3.0, "proxy_timeout"),
        (detecting("http1", fallback=None), 5.0, "no protocol was recognised within 5 s"),
        ({"context": "store", "handshake_timeout": 7.0}, 7.0, "handshake_timeout"),
    ],
    ids=["proxy", "detection", "handshake"],
)
@pytest.mark.parametrize("trickle", [False, True])
def test_every_stage_has_its_time_and_no_byte_prolongs_it(events, options, seconds, rule, trickle):
    if options.get("context"):
        options = options | {"context": store()}
    world = World(Recording(Recorder), **options)
    accepted, connection = world.connect()
    stage = connection.state
    pieces = {"proxy": LINE, "detect": b"PATCH", "handshake": Client(world, accepted).tls}[stage]
    if stage == "handshake":
        client = Client(world, accepted)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        pieces = client._out.read()
    for index in range(4):
        if trickle:
            accepted.feed(pieces[index : index + 1])
        world.loop.turn()
        world.loop.advance(seconds / 4 - 0.01)
    assert not connection.ending
    world.loop.advance(0.1)
    world.loop.turn()
    assert world.ends() == {"policy_deadline": 1}
    [event] = events.of("here")
    assert (event["why"], event["protocol"]) == (rule, stage)
    world.assert_without_trace()


def test_each_stage_has_a_time_of_its_own():
    world = World(Recording(Recorder), proxy=PROXY, **detecting("http1", fallback=None))
    accepted, connection = world.connect()
    world.loop.advance(2.9)
    accepted.feed(LINE)
    world.loop.turn()
    world.loop.advance(4.9)
    assert (connection.state, connection.ending) == ("detect", None)
    world.loop.advance(0.2)
    assert connection.ending is not None


def test_a_handed_over_connection_has_no_stages_deadline():
    world = World(Recording(Recorder), proxy=PROXY)
    accepted, _ = world.connect()
    accepted.feed(LINE)
    world.loop.turn()
    assert len(world.timers) == 0


def test_who_says_nothing_where_no_header_is_required_is_served_as_itself():
    world = World(Recording(Recorder), proxy=ProxyPolicy(trusted=PROXY.trusted, required=False))
    _, connection = world.connect()
    world.loop.advance(3.1)
    assert (connection.state, connection.peer.host) == ("open", "192.0.2.7")


def test_who_has_begun_a_header_has_to_finish_it():
    world = World(Recording(Recorder), proxy=ProxyPolicy(trusted=PROXY.trusted, required=False))
    accepted, _ = world.connect()
    accepted.feed(b"PRO")
    world.loop.turn()
    world.loop.advance(3.1)
    world.loop.turn()
    assert world.ends() == {"policy_deadline": 1}


def test_who_is_refused_once_its_time_is_over_is_closed():
    proxy = ProxyPolicy(trusted=PROXY.trusted, required=False)
    world = World(Recording(Recorder), proxy=proxy, admission=AdmissionPolicy(deny=("192.0.2.0/24",)))
    world.connect()
    world.loop.advance(3.1)
    world.loop.turn()
    assert world.ends() == {"policy_limit": 1}
    assert world.factory.made == []


# Ends


@pytest.mark.parametrize("stage", ["proxy", "detect", "handshake"])
@pytest.mark.parametrize("how", [b"", ConnectionResetError(104, "reset")], ids=["closes", "resets"])
def test_a_peer_that_leaves_before_it_is_served_has_aborted(stage, how):
    options = {"proxy": {"proxy": PROXY}, "detect": detecting("http1"), "handshake": {"context": store()}}[stage]
    world = World(Recording(Recorder), **options)
    accepted, _ = world.connect()
    accepted.feed(how)
    world.loop.turn()
    assert world.ends() == {"peer_aborted": 1}
    world.assert_without_trace()


def test_a_header_that_is_none_is_a_violation():
    world = World(Recording(Recorder), proxy=PROXY)
    accepted, _ = world.connect()
    accepted.feed(b"GET / HTTP/1.1\r\n", b"which nobody reads")
    world.loop.turn()
    world.loop.turn()
    assert world.ends() == {"protocol_violation": 1}


def test_a_detector_that_raises_is_a_defect_and_no_peers_fault(events):
    def late(data):
        if len(data) > 1:
            raise RuntimeError("a defect")
        return Verdict.MORE

    world = World(detection=Detection([("echo", late)]), factories={"echo": Recording()})
    accepted, _ = world.connect()
    accepted.feed(b"12")
    world.loop.turn()
    assert world.ends() == {"internal": 1}


def test_tlvs_are_the_peers_and_none_are_nobodys():
    for tlvs in ((), ((2, b"a.example"),)):
        world = World(Recording(Recorder), proxy=PROXY)
        accepted, connection = world.connect()
        accepted.feed(encode_v2(ProxyHeader.between(("203.0.113.9", 1), ("198.51.100.1", 2), tlvs)))
        world.loop.turn()
        assert connection.peer.proxy_tlvs == (dict(tlvs) or None)


# What TLS says


class Broken:
    """TLS as far as a verdict needs it."""

    disconnecting = False
    _reason = None

    def __init__(self, shutdown=0, problem=None, **state):
        self._tlsConnection = self
        self._shutdown = shutdown
        if problem is not None:
            self._reason = Failure(problem)
        for name, value in state.items():
            setattr(self, name, value)

    def get_shutdown(self):
        return self._shutdown


@pytest.mark.parametrize(
    ("tls", "truncates", "verdict"),
    [
        (Broken(), True, "PeerAborted"),
        (Broken(), False, "NoneType"),
        (Broken(SSL.RECEIVED_SHUTDOWN), True, "NoneType"),
        (Broken(SSL.SENT_SHUTDOWN), True, "PeerAborted"),
        (Broken(disconnecting=True), True, "NoneType"),
        (Broken(_tlsConnection=None), True, "NoneType"),
        (Broken(problem=SSL.Error([("SSL routines", "", "bad record")])), True, "ProtocolViolation"),
        (Broken(problem=SSL.Error([("SSL routines", "", "bad record")])), False, "ProtocolViolation"),
        (Broken(problem=ConnectionLost()), False, "NoneType"),
    ],
)
def test_the_verdict_over_an_end_of_tls(tls, truncates, verdict):
    assert type(tls_verdict(tls, truncates=truncates)).__name__ == verdict


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SSL.Error([("SSL routines", "", "wrong version"), ("x", "", "alert")]), "wrong version; alert"),
        (SSL.Error([]), "Error"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "(-1, 'Unexpected EOF')"),
        (SSL.Error(), ""),
        (None, "None"),
    ],
)
def test_openssls_queue_is_told_in_words(error, text):
    assert _openssl_text(error) == text
