"""Detection: every built-in detector claims its own streams and no other's, however they are split."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from OpenSSL import SSL

from netapp.errors import DeadlineExceeded, ProtocolViolation
from netapp.listeners import detect
from netapp.listeners.detect import DETECTORS, Detection, Detectors, DetectPolicy, Verdict, http1, starts_with
from netapp.protocols.calculator_pb2 import AddRequest, ClientMessage, EchoMessage

YES, NO, MORE = Verdict.YES, Verdict.NO, Verdict.MORE
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


# Real streams


def hello_of_ssl(minimum, maximum, name):
    context = ssl.create_default_context()
    context.minimum_version, context.maximum_version = minimum, maximum
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def hello_of_pyopenssl(method):
    client = SSL.Connection(SSL.Context(method))
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(65536)


TLS = [
    hello_of_ssl(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "example.com"),
    hello_of_ssl(ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, "example.com"),
    hello_of_ssl(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, "a." * 100 + "example"),
    hello_of_pyopenssl(SSL.TLS_METHOD),
    b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x03\x00\x00\x80",  # a hello cut into records of its own
]

methods = st.sampled_from(
    ["GET", "POST", "M-SEARCH", "PRIVATE", "PR", "P", "UPDATEREDIRECTREF", "!#$%&'*+-.^_`|~09azAZ"]
)
requests = st.builds(
    lambda method, target, version: f"{method} /{target} HTTP/1.{version}\r\nHost: x\r\n\r\n".encode(),
    methods,
    st.text("abc/?=&%20", max_size=20),
    st.integers(0, 1),
)
int32s = st.integers(-(2**31), 2**31 - 1)
messages = st.one_of(
    st.builds(lambda text: ClientMessage(echo_message=EchoMessage(content=text)), st.text(max_size=400)),
    st.builds(lambda a, b: ClientMessage(add_request=AddRequest(a=a, b=b)), int32s, int32s),
).map(lambda message: message.SerializeToString())


def varint(number):
    return bytes([number]) if number < 128 else bytes([number % 128 | 128]) + varint(number // 128)


streams = st.one_of(
    st.tuples(st.just("tls"), st.sampled_from(TLS)),
    st.tuples(st.just("http1"), requests),
    st.tuples(st.just("http2"), st.binary(max_size=20).map(lambda more: PREFACE + more)),
    st.tuples(st.just("calculator_varint"), messages.map(lambda message: varint(len(message)) + message)),
    st.tuples(st.just("calculator_int32"), messages.map(lambda message: len(message).to_bytes(4, "big") + message)),
)


def verdicts(data):
    return {name: detector(data) for name, detector in DETECTORS.items()}


def decide(detection, data, places):
    """Let the bytes arrive in pieces, and return the first decision."""
    for place in [*sorted(place for place in places if place < len(data)), len(data)]:
        name = detection.decide(data[:place])
        if name is not None:
            return name
    return None


@given(streams, st.binary(max_size=10))
def test_each_detector_claims_its_own_streams_and_only_those(stream, more):
    name, data = stream
    assert {found for found, verdict in verdicts(data + more).items() if verdict is YES} == {name}
    assert MORE not in verdicts(data + more).values()


@given(streams, st.lists(st.integers(0, 600), max_size=5), st.permutations(list(DETECTORS)))
def test_every_split_and_every_order_of_routes_decides_the_same(stream, places, order):
    name, data = stream
    detection = Detection([(route, DETECTORS[route]) for route in order])
    assert decide(detection, data, places) == name
    assert decide(detection, data, range(len(data))) == name


first_bytes = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda begin, more: begin + more, streams.map(lambda stream: stream[1][:12]), st.binary(max_size=12)),
)


@given(first_bytes)
@example(b"\x82\x00\x0a\x00")
@example(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
def test_verdicts_are_final_and_no_bytes_are_claimed_twice(data):
    """A verdict other than MORE never changes with what follows, which makes a decision independent of the split."""
    settled = dict.fromkeys(DETECTORS, MORE)
    for length in range(len(data) + 1):
        for name, verdict in verdicts(data[:length]).items():
            assert settled[name] in {MORE, verdict}
            settled[name] = verdict
    assert list(settled.values()).count(YES) <= 1


@pytest.mark.parametrize("name", DETECTORS)
def test_no_bytes_at_all_leave_every_detector_undecided(name):
    assert DETECTORS[name](b"") is MORE


@pytest.mark.parametrize(
    ("name", "data", "verdict"),
    [
        ("tls", b"\x16", MORE),
        ("tls", b"\x16\x03\x01\x02\x00", MORE),
        ("tls", b"\x16\x03\x01\x40\x00\x01", YES),
        ("tls", b"\x15", NO),
        ("tls", b"\x16\x02", NO),
        ("tls", b"\x16\x03\x05", NO),
        ("tls", b"\x16\x03\x01\x00\x00", NO),
        ("tls", b"\x16\x03\x01\x40\x01", NO),
        ("tls", b"\x16\x03\x01\x02\x00\x02", NO),
        ("http1", b"G", MORE),
        ("http1", b"GET", MORE),
        ("http1", b"GET ", YES),
        ("http1", b" GET ", NO),
        ("http1", b"GET\r", NO),
        ("http1", b"GET\t/", NO),
        ("http1", b"G\x00", NO),
        ("http1", b"\r\nGET / ", NO),
        ("http1", b"\x80", NO),
        ("http1", b"\x16", NO),
        ("http1", b"PRI", MORE),
        ("http1", b"PRI ", NO),
        ("http1", b"PRIX ", YES),
        ("http1", b"x" * 32, MORE),
        ("http1", b"x" * 32 + b" ", YES),
        ("http1", b"x" * 33, NO),
        ("http2", PREFACE[:-1], MORE),
        ("http2", PREFACE, YES),
        ("http2", PREFACE[:-1] + b"\r", NO),
        ("http2", b"PO", NO),
        ("calculator_varint", b"\x02\x0a\x00", YES),
        ("calculator_varint", b"\x02\x12\x00", YES),
        ("calculator_varint", b"\x02\x1a", NO),
        ("calculator_varint", b"\x03\x0a\x00", NO),
        ("calculator_varint", b"\x03\x0a", MORE),
        ("calculator_varint", b"\x00", NO),
        ("calculator_varint", b"\x01", NO),
        ("calculator_varint", b"\x82\x01\x0a", NO),
        ("calculator_varint", b"\x83\x01\x0a\x80", MORE),
        ("calculator_varint", b"\x83\x01\x0a\x80\x01", YES),
        ("calculator_varint", b"\x85\x00", NO),
        ("calculator_varint", b"\xff\xff\xff\x07", MORE),
        ("calculator_varint", b"\xff\xff\xff\x08", NO),
        ("calculator_varint", b"\xff\xff\xff", MORE),
        ("calculator_varint", b"\xff\xff\xff\xff", NO),
        ("calculator_int32", b"\x00\x00\x00", MORE),
        ("calculator_int32", b"\x00\x00\x00\x00", NO),
        ("calculator_int32", b"\x00\x00\x00\x01", NO),
        ("calculator_int32", b"\x00\x00\x00\x02\x0a\x00", YES),
        ("calculator_int32", b"\x00\x00\x00\x02\x0a\x01", NO),
        ("calculator_int32", b"\x00\xff\xff\xff\x12", MORE),
        ("calculator_int32", b"\x01", NO),
    ],
)
def test_a_detector_decides_at_the_first_byte_that_tells(name, data, verdict):
    """A length of 129 + 1 fits no message: its own length would have to take one byte and two at once."""
    assert DETECTORS[name](data) is verdict


@pytest.mark.parametrize("byte", range(256))
def test_http1_refuses_a_byte_that_no_method_has_at_once(byte):
    """The token characters of RFC 9110 §5.6.2."""
    in_method = chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "!#$%&'*+-.^_`|~")
    assert http1(bytes([byte])) is (MORE if in_method else NO)
    assert http1(b"G" + bytes([byte])) is (MORE if in_method else YES if byte == 0x20 else NO)


# Routes


def begins(text):
    return lambda data: starts_with(data, text)


def test_an_earlier_route_that_asks_for_more_holds_a_later_one_back():
    detection = Detection([("long", begins(b"abcd")), ("short", begins(b"ab"))])
    assert detection.decide(b"ab") is None
    assert detection.decide(b"abc") is None
    assert detection.decide(b"abcd") == "long"
    assert detection.decide(b"abx") == "short"


def test_a_later_route_does_not_hold_an_earlier_one_back():
    detection = Detection([("short", begins(b"ab")), ("long", begins(b"abcd"))])
    assert detection.decide(b"a") is None
    assert detection.decide(b"ab") == "short"


def test_what_no_route_claims_goes_to_the_fallback():
    assert Detection([("tls", DETECTORS["tls"])], "echo").decide(b"x") == "echo"


def test_without_a_fallback_it_is_a_violation_that_names_what_is_spoken_here():
    detection = Detection([("secure", DETECTORS["tls"]), ("web", http1)])
    with pytest.raises(ProtocolViolation, match=r"no protocol of this port \(secure, web\)"):
        detection.decide(b"\x00")


def test_a_fallback_alone_is_decided_without_a_byte():
    assert Detection([], "echo").decide(b"") == "echo"


def test_neither_route_nor_fallback_is_refused():
    with pytest.raises(ValueError, match="needs a route or a fallback"):
        Detection([])


def greedy(data):
    """Asks for ever more."""
    return MORE


def test_at_max_bytes_a_detector_that_asks_for_more_has_said_no():
    detection = Detection([("greedy", greedy), ("web", http1)], policy=DetectPolicy(max_bytes=6))
    assert detection.decide(b"GET /") is None
    assert detection.decide(b"GET / ") == "web"
    with pytest.raises(ProtocolViolation):
        Detection([("greedy", greedy)], policy=DetectPolicy(max_bytes=6)).decide(b"GET / ")


def test_no_detector_sees_more_than_max_bytes():
    """Or bytes that come in one piece would be judged otherwise than the same ones in two."""
    seen = []
    detection = Detection([("spy", lambda data: seen.append(data) or MORE)], "echo", DetectPolicy(max_bytes=4))
    assert detection.decide(b"12345678") == "echo"
    assert detection.expire(b"12345678") == "echo"
    assert seen == [b"1234", b"1234"]


@given(st.binary(max_size=12), st.lists(st.integers(0, 12), max_size=4))
def test_the_bound_decides_the_same_for_every_split(data, places):
    detection = Detection(
        [("greedy", greedy), ("long", begins(b"\x00" * 9)), ("short", begins(b"\x00"))],
        "echo",
        DetectPolicy(max_bytes=6),
    )
    assert decide(detection, data, places) == detection.decide(data)


# Silence


def test_a_silent_peer_is_handed_to_the_fallback():
    """It may be waiting for the server to speak first."""
    assert Detection([("web", http1)], "greeter").expire(b"") == "greeter"


def test_a_silent_peer_is_closed_where_there_is_no_fallback_or_the_policy_says_so():
    for detection in (
        Detection([("web", http1)]),
        Detection([("web", http1)], "greeter", DetectPolicy(on_timeout="close")),
    ):
        with pytest.raises(DeadlineExceeded, match="within 3 s") as raised:
            detection.expire(b"GE")
        assert raised.value.rule == "detect"


def test_a_claim_that_was_held_back_holds_when_the_time_is_over():
    detection = Detection([("greedy", greedy), ("web", http1)], "greeter", DetectPolicy(on_timeout="close"))
    assert detection.expire(b"GET /") == "web"


# Names and policy


def test_a_plugin_can_register_a_detector():
    known = Detectors(DETECTORS)
    known.register("ssh", begins(b"SSH-"))
    assert known.named("ssh")(b"SSH-2.0") is YES
    assert set(known) == {*DETECTORS, "ssh"}
    assert len(known) == len(DETECTORS) + 1
    assert known["tls"] is detect.tls


def test_register_adds_to_the_names_that_a_configuration_may_use(monkeypatch):
    monkeypatch.setattr(DETECTORS, "_known", dict(DETECTORS))
    detect.register("ssh", begins(b"SSH-"))
    assert DETECTORS.named("ssh")(b"S") is MORE


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'tls' is registered already"):
        Detectors(DETECTORS).register("tls", greedy)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("htp1", "no detector named 'htp1': did you mean 'http1'"),
        ("calculator", "did you mean 'calculator_"),
        ("zzz", "known are calculator_int32, calculator_varint, http1, http2, tls"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, words):
    with pytest.raises(ValueError, match=words):
        DETECTORS.named(name)


@pytest.mark.parametrize(("fields", "words"), [({"timeout": 0.0}, "timeout above 0"), ({"max_bytes": 0}, "at least 1")])
def test_a_policy_that_could_not_decide_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        DetectPolicy(**fields)
