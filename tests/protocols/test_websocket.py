"""One connection: messages, what is refused, closing, signs of life. In memory, behind the HTTP engine."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import LogLevel, capturedLogs

from netapp.errors import DeadlineExceeded, Draining, End, LimitExceeded, PeerAborted, ProtocolViolation, classify
from netapp.protocols.websocket import EchoService, WebSocketPolicy, WebSocketService
from tests.support.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Client,
    Recorder,
    close,
    closed,
    connect,
    frame,
    read_frames,
    text,
    unfinished,
)

# -- messages


def test_text_and_binary_messages_are_echoed_as_what_they_were():
    client = connect()
    client.send(text("grüße"), frame(BINARY, b"\x00\xff"))
    assert client.read() == [(TEXT, "grüße".encode()), (BINARY, b"\x00\xff")]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_form_of_length(size):
    client = connect()
    client.send(frame(BINARY, bytes(size)))
    assert client.read() == [(BINARY, bytes(size))]


def test_a_service_is_given_str_and_bytes():
    service = Recorder()
    connect(service).send(text("a"), frame(BINARY, b"a"))
    assert service.seen == ["open", "a", b"a"]


def test_fragments_make_one_message_and_a_ping_between_them_is_answered_first():
    client = connect()
    client.send(text("frag", fin=False), frame(PING, b"!"), frame(0, b"men", fin=False), frame(0, b"ts"))
    assert client.read() == [(PONG, b"!"), (TEXT, b"fragments")]


messages = st.lists(
    st.one_of(
        st.tuples(st.just(TEXT), st.text(max_size=200).map(str.encode)),
        st.tuples(st.just(BINARY), st.binary(max_size=400)),
        st.tuples(st.just(PING), st.binary(max_size=125)),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(messages, st.data())
def test_however_the_bytes_are_split_the_same_messages_come_out(sent, data):
    client = connect()
    stream = b"".join(frame(opcode, payload) for opcode, payload in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    client.send(*(stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)))
    assert client.read() == [(PONG if opcode == PING else opcode, payload) for opcode, payload in sent]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8), st.booleans())
def test_no_bytes_whatever_raise_or_hold_a_connection_for_ever(pieces, deflate):
    client = connect(policy=WebSocketPolicy(deflate=deflate), Sec_WebSocket_Extensions="permessage-deflate")
    client.send(*pieces)
    assert client.server.state in {"open", "closing"}
    read_frames(client.stream.unsent)
    client.wait(50)
    assert client.stream.aborted or client.stream.closed


# -- what is refused, and how the client is told


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (text("x", mask=b""), 1002),
        (frame(3, b"x"), 1002),
        (frame(0xB), 1002),
        (text("x", rsv=1), 1002),
        (text("x", rsv=4), 1002),
        (frame(0, b"x"), 1002),
        (text("x", fin=False) + text("y"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"x"), 1002),
        (close(1005), 1002),
        (close(999), 1002),
        (close(2999), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(0, b"\x28"), 1007),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    ],
)
def test_a_violation_is_answered_with_its_close_code_and_nothing_behind_it_is_read(data, code):
    service = Recorder()
    client = connect(service)
    client.send(data + text("behind"), text("later"))
    [(opcode, payload)] = client.read()
    assert opcode == CLOSE
    assert struct.unpack("!H", payload[:2])[0] == code
    assert len(payload) <= 125
    assert isinstance(client.server.ending, ProtocolViolation)
    client.stream.end()
    client.stream.take()
    assert client.stream.closed
    assert service.seen[0] == "open"
    assert service.seen[1][0] == code
    assert len(service.seen) == 2


def test_a_fragmented_character_is_no_violation():
    client = connect()
    client.send(frame(TEXT, b"\xc3", fin=False), frame(0, b"\xbc"))
    assert client.read() == [(TEXT, "ü".encode())]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (frame(BINARY, bytes(1001))[:8], "websocket_max_message"),  # refused by its header
        (frame(BINARY, bytes(600), fin=False) + frame(0, bytes(401)), "websocket_max_message"),
        (frame(BINARY, bytes(701)), "websocket_max_frame"),
    ],
)
def test_what_is_too_large_is_answered_with_1009(data, rule):
    service = Recorder()
    client = connect(service, WebSocketPolicy(max_message=1000, max_frame=700))
    client.send(data)
    [(opcode, payload)] = client.read()
    assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))
    assert isinstance(client.server.ending, LimitExceeded)
    assert client.server.ending.rule == rule
    assert service.seen == ["open"]


def test_what_just_fits_is_taken():
    client = connect(policy=WebSocketPolicy(max_message=1000, max_frame=700))
    client.send(frame(BINARY, bytes(700), fin=False), frame(0, bytes(300)))
    assert client.read() == [(BINARY, bytes(1000))]


def held(client):
    """Count the bytes of everything of variable size that the framer holds."""
    values = vars(client.server._framer).values()
    return sum(sys.getsizeof(value) for value in values if isinstance(value, (list, bytes, bytearray)))


def test_endless_empty_fragments_hold_no_memory():
    client = connect()
    client.send(text("", fin=False))
    before = held(client)
    for _ in range(200):
        client.send(frame(0, fin=False) * 10)
    assert held(client) == before


def test_what_follows_a_violation_holds_no_memory():
    client = connect()
    before = held(client)
    client.send(frame(PING, b"x" * 126) + b"x" * 1000)
    for _ in range(50):
        client.send(b"x" * 1000)
    assert held(client) < before + 500  # the reason of our Close


def test_a_violation_is_told_before_the_connection_ends():
    """RFC 6455 §7.1.1: closing a socket with unread input would destroy the Close frame; so half-close and linger."""
    client = connect()
    client.send(text("x", mask=b""))
    client.read()
    assert client.stream.ended
    assert client.stream.reading
    client.stream.send(text("still sending"))
    assert not client.stream.closed
    client.stream.end()
    client.stream.take()
    assert client.stream.closed


# -- control frames and closing


def test_a_ping_is_answered_with_its_payload():
    client = connect()
    client.send(frame(PING, b"payload"), frame(PING))
    assert client.read() == [(PONG, b"payload"), (PONG, b"")]


@pytest.mark.parametrize(
    ("sent", "answered", "told"),
    [
        (close(1000), closed(1000), (1000, "")),
        (close(1001, "bye"), closed(1001, b"bye"), (1001, "bye")),
        (close(3999), closed(3999), (3999, "")),
        (close(), (CLOSE, b""), (1005, "")),
    ],
)
def test_a_client_s_close_is_echoed_and_the_connection_closed(sent, answered, told):
    service = Recorder()
    client = connect(service)
    client.send(sent)
    assert client.server.state == "closing"
    assert client.read() == [answered]
    assert client.stream.closed
    assert service.seen == ["open", told]
    assert client.server.ending is None
    assert client.server.state == "closed"


def test_our_close_waits_for_the_client_s():
    service = Recorder()
    client = connect(service)
    service.socket.close(4000, "enough")
    assert client.read() == [closed(4000, b"enough")]
    assert not client.stream.closed
    assert client.server.state == "closing"
    client.send(text("too late"), close(4000))
    assert client.read() == []
    assert client.stream.closed
    assert service.seen == ["open", (4000, "enough")]
    assert client.server.ending is None


def test_a_client_that_does_not_answer_our_close_is_aborted():
    service = Recorder()
    client = connect(service, WebSocketPolicy(close_timeout=3.0))
    service.socket.close()
    client.wait(2.9)
    assert not client.stream.aborted
    client.wait(0.3)
    assert client.stream.aborted
    assert client.server.ending.rule == "websocket_close"


def test_a_client_that_does_not_take_the_answer_to_its_close_is_aborted():
    client = connect(policy=WebSocketPolicy(close_timeout=3.0))
    client.send(close(1000))
    client.wait(3.2)
    assert client.stream.aborted


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_service_cannot_send_a_code_that_must_not_be_sent(code):
    service = Recorder()
    client = connect(service)
    with pytest.raises(ValueError, match=str(code)):
        service.socket.close(code)
    assert client.look() == []


def test_a_long_reason_is_cut_between_two_characters():
    service = Recorder()
    client = connect(service)
    service.socket.close(1000, "ü" * 100)
    assert client.read() == [closed(1000, "ü".encode() * 61)]


def test_a_connection_that_is_lost_without_a_close_frame_has_code_1006():
    service = Recorder()
    client = connect(service)
    client.stream.lose(ConnectionLost())
    assert service.seen == ["open", (1006, "")]
    assert client.server.ending is None


def test_a_client_that_only_closes_its_side_has_gone_in_the_middle():
    client = connect()
    client.stream.end()
    client.stream.take()
    assert client.stream.closed
    assert isinstance(client.server.ending, PeerAborted)
    assert classify(ConnectionDone(), client.server.ending) is End.PEER_ABORTED


def test_draining_sends_the_client_elsewhere():
    service = Recorder()
    client = connect(service)
    client.server.drain()
    client.server.drain()
    assert client.read() == [closed(1001, b"the server is stopping")]
    assert isinstance(client.server.ending, Draining)
    client.send(close(1001))
    client.stream.take()
    assert client.stream.closed
    assert service.seen == ["open", (1001, "the server is stopping")]


def test_draining_before_the_handshake_ends_the_connection():
    connection, stream = unfinished(Client(EchoService()))
    connection.drain()
    assert stream.aborted
    assert isinstance(connection.ending, Draining)


# -- signs of life


def test_a_connection_that_is_not_given_a_handshake_in_time_is_aborted():
    service = Recorder()
    client = Client(service)
    connection, stream = unfinished(client)
    connection.dataReceived(b"GET /ws HTTP/1.1\r\n")
    assert connection.state == "opening"
    client.wait(4.9)
    assert not stream.aborted
    client.wait(0.3)
    assert stream.aborted
    assert connection.ending.rule == "websocket_handshake"
    connection.connectionLost()
    assert service.seen == []
    assert client.count("netapp_websocket_connections") == 0


def test_a_silent_client_is_pinged_and_then_given_up():
    client = connect()
    client.wait(20.2)
    assert client.read() == [(PING, b"")]
    client.wait(19)
    assert not client.stream.aborted
    client.wait(1.2)
    assert client.stream.aborted
    assert isinstance(client.server.ending, DeadlineExceeded)
    assert client.server.ending.rule == "websocket_ping"


def test_a_client_that_answers_is_pinged_again_and_again():
    client = connect()
    for _ in range(5):
        client.wait(20.5)
        assert client.read() == [(PING, b"")]
        client.send(frame(PONG))
    assert not client.stream.aborted


def test_a_client_that_sends_needs_no_ping():
    client = connect(WebSocketService())
    for _ in range(5):
        for part in (text("alive")[:3], text("alive")[3:]):
            client.wait(15)
            client.send(part)
    assert client.look() == []


def test_without_an_interval_nobody_is_pinged():
    client = connect(policy=WebSocketPolicy(ping_interval=0))
    client.clock.pump([10.0] * 100)
    assert client.look() == []
    assert not client.stream.aborted


def test_while_we_do_not_read_the_client_is_not_called_silent():
    client = connect(mark=100)
    client.send(frame(BINARY, bytes(200)))
    assert not client.stream.reading
    client.wait(120)
    assert not client.stream.aborted


# -- counting, and being a good neighbour


def test_what_is_counted():
    client = connect()
    assert client.count("netapp_websocket_connections") == 1
    client.send(text("a"), text("b"), close(1000))
    client.read()
    assert client.count("netapp_websocket_connections") == 0
    assert client.count("netapp_websocket_messages_total", "in") == 2
    assert client.count("netapp_websocket_messages_total", "out") == 2
    assert client.count("netapp_websocket_closed_total", "1000") == 1


@pytest.mark.parametrize(("code", "label"), [(3000, "3xxx"), (4999, "4xxx"), (1014, "1014")])
def test_codes_that_anybody_may_make_up_do_not_become_labels(code, label):
    service = Recorder()
    client = connect(service)
    service.socket.close(code)
    client.stream.lose()
    assert client.count("netapp_websocket_closed_total", label) == 1


def test_a_connection_leaves_no_timer_behind():
    client = connect()
    client.send(text("x", mask=b""))
    client.stream.lose()
    assert len(client.timers) == 0


def test_autobahn_s_complaints_about_a_client_are_not_above_debug():
    with capturedLogs() as events:
        client = connect()
        client.send(text("x", mask=b""))
        client.stream.lose(ConnectionLost())
    assert {event["log_level"] for event in events} <= {LogLevel.debug}
