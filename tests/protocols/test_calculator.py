import gc
import resource
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from netapp.errors import DeadlineExceeded, Draining, LimitExceeded, PeerAborted, ProtocolViolation
from netapp.protocols.calculator import TURN, Answers, CalculatorFactory, CalculatorPolicy
from netapp.protocols.calculator_pb2 import AddRequest, ClientMessage, EchoMessage, ErrorResponse, ServerMessage
from netapp.protocols.framing import FRAMERS, HEADERS
from netapp.telemetry.metrics import Registry
from netapp.timers import NEVER, Timers
from tests.support.stream import Stream

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
FRAMINGS = ["varint", "int32"]


def frame(message, framing="varint"):
    payload = message if isinstance(message, bytes) else message.SerializeToString()
    return HEADERS[framing][len(payload)] + payload


def add(a, b):
    return ClientMessage(add_request=AddRequest(a=a, b=b))


def echo(text):
    return ClientMessage(echo_message=EchoMessage(content=text))


def read_answers(data, framing="varint"):
    framer = FRAMERS[framing](2**20)
    answers = [ServerMessage.FromString(payload) for payload in framer.feed(data)]
    assert framer.idle
    return [plain(answer) for answer in answers]


def plain(answer):
    kind = answer.WhichOneof("message")
    if kind == "add_response":
        return answer.add_response.result
    if kind == "echo_message":
        return answer.echo_message.content
    assert kind == "error_response"
    assert answer.error_response.text
    return ErrorResponse.Code.Name(answer.error_response.code)


class Rig:
    """A calculator, its clock and a peer."""

    def __init__(self, mark=64 * 1024, **policy):
        self.clock = Clock()
        self.timers = Timers(self.clock, self.clock.seconds)
        self.registry = Registry()
        self.policy = CalculatorPolicy(**policy)
        factory = CalculatorFactory(self.policy, self.timers, self.registry, self.clock)
        self.calculator = factory.buildProtocol(None)
        self.stream = Stream(self.calculator, mark)

    def send(self, *messages):
        return self.stream.send(b"".join(frame(message, self.policy.framing) for message in messages))

    def answers(self):
        return read_answers(self.stream.take_all(), self.policy.framing)

    def counted(self):
        (family,) = self.registry
        return {kind: child.value for (kind,), child in family.children.items()}

    def settle(self):
        """Let turns and reads follow each other to the end."""
        while self.calculator._turn is not None or self.stream.unsent:
            self.clock.advance(0)
            self.stream.take()


@pytest.fixture
def rig():
    return Rig()


# Requests and their answers


@pytest.mark.parametrize("framing", FRAMINGS)
def test_each_request_is_answered_in_its_order(framing):
    rig = Rig(framing=framing)
    rig.send(add(2, 3), echo("hello"), add(-5, 5), echo(""), add(INT32_MAX, INT32_MIN), echo("é" * 500))
    assert rig.answers() == [5, "hello", 0, "", -1, "é" * 500]


def test_all_answers_to_one_read_leave_in_one_write(rig):
    rig.send(*[add(number, 1) for number in range(1000)])
    assert len(rig.stream.writes) == 1
    assert rig.answers() == list(range(1, 1001))


def test_a_read_of_whole_frames_arms_no_timer(rig):
    rig.send(add(1, 1), echo("hello"))
    assert rig.clock.getDelayedCalls() == []
    assert rig.calculator.deadline == NEVER


@given(st.integers(INT32_MIN, INT32_MAX), st.integers(INT32_MIN, INT32_MAX))
def test_a_sum_is_right_or_refused(a, b):
    (answer,) = read_answers(Answers("varint", Registry()).answer([add(a, b).SerializeToString()]))
    assert answer == (a + b if INT32_MIN <= a + b <= INT32_MAX else "OVERFLOW")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (INT32_MAX, 0, INT32_MAX),
        (INT32_MAX, 1, "OVERFLOW"),
        (INT32_MAX, INT32_MAX, "OVERFLOW"),
        (INT32_MIN, 0, INT32_MIN),
        (INT32_MIN, -1, "OVERFLOW"),
        (INT32_MIN, INT32_MIN, "OVERFLOW"),
    ],
)
def test_sums_are_refused_from_the_first_that_does_not_fit(rig, a, b, expected):
    rig.send(add(a, b), add(1, 1))
    assert rig.answers() == [expected, 2]


BAD_TEXT = b"\x0a\x04\x0a\x02\xff\xfe"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "EMPTY"),
        (b"\x18\x01", "EMPTY"),  # field 3, which is not known
        (b"\xff", "MALFORMED"),  # a tag that does not end
        (b"\x0a\x05\x0a\x01a", "MALFORMED"),  # an echo shorter than it says
        (b"\x12\x02\x08\xff", "MALFORMED"),  # a number that does not end
        (b"\x0a\x01\xff", "MALFORMED"),  # an echo that is not a message
        (BAD_TEXT, "INVALID_UTF8"),
        (b"\x0a\x05\x0a\x03\xed\xa0\x80", "INVALID_UTF8"),  # a surrogate
        (b"\x18\x01" + BAD_TEXT, "INVALID_UTF8"),
        (BAD_TEXT[:-1], "MALFORMED"),
    ],
)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_cannot_be_answered_is_refused_by_name_and_the_stream_goes_on(framing, payload, code):
    rig = Rig(framing=framing)
    rig.send(add(1, 1), payload, add(2, 2))
    assert rig.answers() == [2, code, 4]
    assert rig.calculator.state == "idle"


def test_a_message_that_says_two_things_means_the_last(rig):
    rig.send(echo("hello").SerializeToString() + add(1, 2).SerializeToString())
    assert rig.answers() == [3]


def test_unknown_fields_of_an_echo_do_not_come_back(rig):
    """What we do not know may be known to whoever reads a ServerMessage: field 3 would be an error."""
    rig.send(echo("hello").SerializeToString() + b"\x1a\x02\x08\x01" + b"\x0a\x03\x18\x01\x18")
    rig.send(echo("hello").SerializeToString() + b"\x1a\x02\x08\x01")
    assert rig.answers() == ["MALFORMED", "hello"]
    assert rig.stream.received.endswith(frame(echo("hello")))


def test_answers_are_counted_by_kind(rig):
    rig.send(add(1, 1), add(1, 1), echo("x"), b"", b"\xff", add(INT32_MAX, 1))
    rig.stream.send(b"\xff" * 5)
    assert rig.counted() == {"add": 2, "echo": 1, "error": 4}


def test_answering_keeps_no_memory():
    """A protobuf message that is parsed into again and again keeps the memory of every parse."""
    answers = Answers("varint", Registry())
    payload = echo("x" * 4000).SerializeToString()
    answers.answer([payload])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5000):
        answers.answer([payload] * 4)
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB; 80,000 were parsed


# Splits


streams = st.lists(
    st.one_of(
        st.builds(add, st.integers(INT32_MIN, INT32_MAX), st.integers(INT32_MIN, INT32_MAX)),
        st.builds(echo, st.text(max_size=80)),
        st.binary(max_size=20),
    ),
    max_size=12,
)
cuts = st.lists(st.integers(0, 600), max_size=12)


def send_split(rig, data, at):
    edges = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    for start, stop in pairwise(edges):
        rig.calculator.dataReceived(data[start:stop])


@given(st.sampled_from(FRAMINGS), streams, cuts)
def test_no_split_changes_the_answers(framing, messages, at):
    data = b"".join(frame(message, framing) for message in messages)
    whole, pieces = Rig(framing=framing), Rig(framing=framing)
    whole.calculator.dataReceived(data)
    send_split(pieces, data, at)
    assert pieces.answers() == whole.answers()
    assert len(whole.answers()) == len(messages)


@given(st.sampled_from(FRAMINGS), st.binary(max_size=200), cuts)
def test_nonsense_raises_nothing_and_ends_alike_however_it_is_split(framing, data, at):
    whole, pieces = Rig(framing=framing, max_frame=100), Rig(framing=framing, max_frame=100)
    whole.calculator.dataReceived(data)
    send_split(pieces, data, at)
    assert pieces.stream.take_all() == whole.stream.take_all()
    assert repr(pieces.calculator.ending) == repr(whole.calculator.ending)
    assert pieces.calculator.state == whole.calculator.state


# What ends the stream


def closes_cleanly(rig):
    """Everything was sent, our side is closed, what comes in is ignored, and the peer's end is waited for."""
    received = rig.stream.take_all()
    assert rig.stream.ended
    assert not rig.stream.closed
    assert rig.calculator.state == "closing"
    rig.send(add(1, 1), b"x" * 40_000)
    assert rig.stream.take_all() == received
    rig.stream.end()
    rig.stream.take()
    return rig.stream.closed


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_frame_over_the_limit_is_refused_before_it_is_read_and_ends_the_stream(framing):
    rig = Rig(framing=framing, max_frame=100)
    rig.stream.send(frame(add(1, 1), framing) + HEADERS[framing][101])
    assert rig.answers() == [2, "FRAME_TOO_LARGE"]
    assert b"a frame of 101 bytes is over the limit of 100 (max_frame)" in rig.stream.received
    assert isinstance(rig.calculator.ending, LimitExceeded)
    assert rig.calculator.ending.rule == "max_frame"
    assert closes_cleanly(rig)


def test_the_largest_frame_is_answered():
    text = "x" * 94
    rig = Rig(max_frame=98)
    rig.send(echo(text))
    assert rig.answers() == [text]


def test_a_length_that_is_none_ends_the_stream(rig):
    rig.stream.send(frame(add(1, 1)) + b"\xff\xff\xff\xff\xff\x01")
    assert rig.answers() == [2, "BAD_LENGTH"]
    assert isinstance(rig.calculator.ending, ProtocolViolation)
    assert closes_cleanly(rig)


def test_a_peer_that_does_not_close_is_left_after_the_linger():
    rig = Rig(linger=2)
    rig.stream.send(b"\xff" * 5)
    rig.stream.take_all()
    rig.clock.pump([0.1] * 19)
    rig.stream.take()
    assert not rig.stream.closed
    rig.clock.pump([0.1] * 3)
    rig.stream.take()
    assert rig.stream.closed


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_frame_must_be_complete_in_time_however_it_trickles_in(framing):
    rig = Rig(framing=framing, frame_timeout=30)
    rig.stream.send(frame(add(1, 1), framing))
    for byte in frame(echo("x" * 1000), framing)[:290]:
        rig.stream.send(bytes([byte]))
        rig.clock.advance(0.1)
    assert rig.calculator.state == "active"
    rig.clock.pump([0.1] * 12)
    assert rig.answers() == [2, "FRAME_TIMEOUT"]
    assert isinstance(rig.calculator.ending, DeadlineExceeded)
    assert rig.calculator.ending.rule == "frame_timeout"
    assert closes_cleanly(rig)


def test_a_frame_that_is_completed_in_time_ends_the_deadline(rig):
    data = frame(add(1, 1))
    rig.stream.send(data[:3])
    rig.clock.pump([1] * 29)
    rig.stream.send(data[3:])
    rig.clock.pump([1] * 100)
    assert rig.answers() == [2]
    assert rig.calculator.ending is None
    assert rig.clock.getDelayedCalls() == []


def test_each_frame_has_the_whole_time(rig):
    """A pipelining peer whose reads always end inside a frame is not cut."""
    data = frame(add(1, 1))
    rig.stream.send(data[:3])
    for _ in range(10):
        rig.clock.pump([1] * 20)
        rig.stream.send(data[3:] + data[:3])
    assert rig.calculator.ending is None
    rig.clock.pump([1] * 32)
    assert isinstance(rig.calculator.ending, DeadlineExceeded)


def test_no_frame_timeout_waits_for_ever():
    rig = Rig(frame_timeout=0)
    rig.stream.send(b"\x06\x12")
    assert rig.clock.getDelayedCalls() == []


def test_time_in_which_we_do_not_read_is_not_held_against_the_peer():
    rig = Rig(mark=10)
    data = frame(echo("x" * 50))
    rig.stream.send(data + data[:5])
    assert not rig.stream.reading
    rig.clock.pump([1] * 70)
    assert rig.calculator.ending is None
    rig.stream.take()
    rig.clock.pump([1] * 32)
    assert isinstance(rig.calculator.ending, DeadlineExceeded)


# Back-pressure


def test_a_peer_that_does_not_read_is_not_read_from(rig):
    requests = [echo(f"{number:05}" + "x" * 100) for number in range(20_000)]
    rest = rig.send(*requests)
    while rig.calculator._turn is not None:
        rig.clock.advance(0)
        rest = rig.stream.send(rest)
    assert rest
    assert not rig.stream.reading
    assert rig.calculator.state == "active"
    assert rig.stream.most_unsent < 64 * 1024 + 2 * TURN
    while rest:
        rig.settle()
        rest = rig.stream.send(rest)
    rig.settle()
    assert rig.answers() == [request.echo_message.content for request in requests]
    assert rig.stream.most_unsent < 64 * 1024 + 2 * TURN
    assert rig.calculator.state == "idle"


def test_a_large_read_of_tiny_frames_is_answered_in_turns(rig):
    """Some transports read more at a time than ours; its answers fill neither memory nor everybody's time."""
    rig.calculator.dataReceived(b"\x00" * 256 * 1024)
    assert rig.stream.most_unsent < 512 * 1024
    assert not rig.stream.reading
    rig.settle()
    assert rig.stream.most_unsent < 512 * 1024
    assert rig.counted()["error"] == 256 * 1024
    assert rig.stream.reading


def test_while_answers_leave_the_rest_waits_one_turn_at_a_time():
    rig = Rig(mark=10**9)
    rig.send(*[add(number, 0) for number in range(6000)])
    for turns in range(1, 3):
        assert len(rig.stream.writes) == turns
        assert not rig.stream.reading
        turn = rig.calculator._turn
        rig.clock.calls.remove(turn)
        turn.func()
    assert rig.stream.reading
    assert rig.answers() == list(range(6000))


def test_what_a_transport_still_delivers_while_it_should_not_is_kept_in_order():
    rig = Rig(mark=10**9)
    data = b"".join(frame(add(number, 0)) for number in range(8000))
    rig.calculator.dataReceived(data[:30_000])
    rig.calculator.dataReceived(data[30_000:30_001])
    rig.calculator.dataReceived(data[30_001:])
    rig.settle()
    assert rig.answers() == list(range(8000))


def test_a_transport_that_writes_at_once_loses_and_repeats_nothing():
    """Its write may pause and resume us before it returns."""
    rig = Rig(mark=0)
    write = rig.stream.write
    rig.stream.write = lambda data: (write(data), rig.stream.take())
    requests = b"".join(frame(add(number, 0)) for number in range(20_000))
    rig.calculator.dataReceived(requests + b"\xff" * 5 + requests)
    rig.settle()
    assert rig.answers() == [*range(20_000), "BAD_LENGTH"]


# Ends


def test_at_the_peers_end_everything_is_answered_before_we_close(rig):
    rig.send(add(1, 1), add(2, 2))
    rig.stream.end()
    assert rig.answers() == [2, 4]
    assert rig.stream.closed
    assert rig.calculator.ending is None


def test_at_the_peers_end_the_backlog_is_answered_too():
    rig = Rig(mark=10**9)
    rig.calculator.dataReceived(b"".join(frame(add(number, 0)) for number in range(20_000)))
    rig.calculator.readConnectionLost()
    assert not rig.stream._closing
    rig.settle()
    assert rig.answers() == list(range(20_000))
    assert rig.stream.closed


@pytest.mark.parametrize("size", [1, 2, 5])
def test_an_end_inside_a_frame_is_told_and_classified(rig, size):
    rig.stream.send(frame(add(1, 1)) + frame(echo("x" * 300))[:size])
    rig.stream.end()
    assert rig.answers() == [2, "TRUNCATED"]
    assert rig.stream.closed
    assert isinstance(rig.calculator.ending, PeerAborted)


def test_a_connection_lost_inside_a_frame_is_the_peers_doing_if_it_closed_in_order(rig):
    rig.stream.send(b"\x06\x12")
    rig.stream.lose()
    assert isinstance(rig.calculator.ending, PeerAborted)


def test_a_reset_is_left_to_the_transport_to_report(rig):
    rig.stream.send(b"\x06\x12")
    rig.stream.lose(ConnectionLost())
    assert rig.calculator.ending is None


def test_a_lost_connection_leaves_nothing_behind():
    rig = Rig(mark=10**9)
    rig.calculator.dataReceived(b"\x00" * 100_000)
    rig.stream.lose()
    assert rig.clock.getDelayedCalls() == []
    rig.calculator.dataReceived(b"\x00" * 100_000)
    rig.calculator.dataReceived(b"\x00")
    assert rig.clock.getDelayedCalls() == []
    assert rig.calculator.state == "closing"


def test_a_lost_connection_is_no_longer_timed(rig):
    rig.stream.send(b"\x06\x12")
    rig.stream.lose()
    assert rig.calculator.slot == 0
    assert not any(rig.timers._buckets.values())


def test_draining_closes_an_idle_connection(rig):
    rig.calculator.drain()
    rig.calculator.drain()
    assert isinstance(rig.calculator.ending, Draining)
    assert closes_cleanly(rig)


def test_draining_answers_what_has_arrived_whole(rig):
    rig.stream.send(frame(add(1, 1)) + frame(add(2, 2))[:4])
    rig.calculator.drain()
    rig.stream.take_all()
    rig.stream.send(frame(add(2, 2))[4:])
    assert rig.answers() == [2]
    assert closes_cleanly(rig)


def test_draining_answers_the_backlog():
    rig = Rig(mark=10**9)
    rig.calculator.dataReceived(b"".join(frame(add(number, 0)) for number in range(20_000)))
    rig.calculator.drain()
    assert rig.calculator.state == "active"
    rig.settle()
    assert rig.answers() == list(range(20_000))
    assert closes_cleanly(rig)


def test_draining_after_the_peers_end_waits_for_nothing():
    rig = Rig(mark=10**9)
    rig.calculator.dataReceived(b"\x00" * 40_000)
    rig.calculator.readConnectionLost()
    rig.calculator.drain()
    rig.settle()
    assert rig.stream.closed


def test_draining_after_the_end_changes_nothing(rig):
    rig.stream.send(b"\xff" * 5)
    rig.calculator.drain()
    assert isinstance(rig.calculator.ending, ProtocolViolation)


def test_a_violation_in_the_backlog_ends_the_turns():
    rig = Rig(mark=10**9)
    rig.calculator.dataReceived(b"\x00" * TURN + b"\xff" * 5 + b"\x00" * 100_000)
    rig.clock.advance(0)
    assert rig.calculator._turn is None
    assert rig.counted()["error"] == TURN + 1
    assert closes_cleanly(rig)


def test_its_state_is_one_word(rig):
    unconnected = CalculatorFactory().buildProtocol(None)
    assert unconnected.state == "closing"
    unconnected.drain()
    assert unconnected.ending is None
    assert rig.calculator.state == "idle"
    rig.stream.send(b"\x06")
    assert rig.calculator.state == "active"


# The factory and its policy


@pytest.mark.parametrize("limit", [0, -1, 2**31])
def test_a_limit_that_cannot_be_meant_is_refused(limit):
    with pytest.raises(ValueError, match="max_frame is"):
        CalculatorPolicy(max_frame=limit)


def test_it_works_alone_in_any_program():
    factory = CalculatorFactory()
    calculator, other = factory.buildProtocol(None), factory.buildProtocol(None)
    assert calculator._timers is other._timers
    assert calculator.factory is factory
    assert verifyObject(IHalfCloseableProtocol, calculator)
    transport = StringTransport()
    calculator.makeConnection(transport)
    calculator.dataReceived(frame(add(2, 3)))
    assert read_answers(transport.value()) == [5]
    calculator.dataReceived(b"\xff" * 5)
    assert transport.disconnecting
