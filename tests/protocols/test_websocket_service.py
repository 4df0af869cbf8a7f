"""A service's methods and its sockets: order, failures, and back-pressure in both directions."""

from __future__ import annotations

import gc

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import LogLevel, capturedLogs

from netapp.errors import End
from netapp.protocols.websocket import EchoService, SocketClosed, WebSocketPolicy, WebSocketService
from tests.support.websocket import (
    BINARY,
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
)

# -- order


def test_a_service_without_methods_listens_patiently():
    client = connect(WebSocketService())
    client.send(text("x"), close(1000))
    assert client.read() == [closed(1000)]


def test_messages_are_delivered_one_at_a_time():
    first, second = Deferred(), Deferred()
    service = Recorder(None, first, second)
    client = connect(service)
    client.send(text("a") + text("b"), text("c"))
    assert service.seen == ["open", "a"]
    first.callback("whatever")
    assert service.seen == ["open", "a", "b"]
    second.callback(None)
    assert service.seen == ["open", "a", "b", "c"]


def test_no_message_is_delivered_before_on_open_is_done():
    opening = Deferred()
    service = Recorder(opening)
    client = connect(service)
    client.send(text("a"))
    assert service.seen == ["open"]
    opening.callback(None)
    assert service.seen == ["open", "a"]


def test_a_handler_may_be_a_coroutine():
    class Service(WebSocketService):
        async def on_message(self, socket, message):
            await socket.send(message)
            await socket.send("again")

    client = connect(Service(), mark=10)
    client.send(text("0123456789"))
    assert client.read() == [(TEXT, b"0123456789")]
    assert client.read() == [(TEXT, b"again")]


def test_a_service_may_turn_a_client_away_at_the_door():
    class Service(WebSocketService):
        def on_open(self, socket):
            socket.close(4001, "go away")

    client = Client(Service())
    client.request(behind=text("hello"))
    assert client.read() == [closed(4001, b"go away")]
    client.send(close(4001))
    client.read()
    assert client.stream.closed


# -- failures


@pytest.mark.parametrize("answers", [(ValueError("boom"),), (None, ValueError("boom"))])
def test_a_handler_that_raises_is_logged_and_costs_its_connection_only(answers):
    service = Recorder(*answers)
    with capturedLogs() as events:
        client = connect(service)
        client.send(text("a"), text("b"))
    assert client.server.ending.end is End.INTERNAL
    [event] = [event for event in events if event["log_level"] is LogLevel.critical]
    assert event["log_failure"].check(ValueError)
    assert "b" not in service.seen


@pytest.mark.parametrize("answer", ["nonsense", ValueError("boom")])
def test_a_client_whose_handler_failed_is_told_1011_and_nothing_internal(answer):
    client = connect(Recorder(None, answer))
    with capturedLogs() as events:
        client.send(text("a"))
    assert client.read() == [closed(1011, b"internal error")]
    assert len(events) == 1


def test_a_handler_whose_deferred_fails_is_the_same():
    later = Deferred()
    client = connect(Recorder(None, later))
    client.send(text("a"))
    with capturedLogs() as events:
        later.errback(ValueError("boom"))
    assert client.read() == [closed(1011, b"internal error")]
    assert len(events) == 1


def test_a_cancelled_handler_of_an_open_connection_is_the_same():
    later = Deferred()
    client = connect(Recorder(None, later))
    client.send(text("a"))
    with capturedLogs() as events:
        later.cancel()
    assert [event["log_failure"].type for event in events] == [CancelledError]
    assert client.read() == [closed(1011, b"internal error")]


def test_an_exception_in_on_close_is_logged():
    client = connect(Recorder(None, ValueError("boom")))
    with capturedLogs() as events:
        client.stream.lose()
    assert [event["log_failure"].type for event in events] == [ValueError]


# -- the end


def test_what_arrived_before_the_end_is_delivered_before_on_close():
    busy = Deferred()
    service = Recorder(None, busy)
    client = connect(service)
    client.send(text("a") + text("b") + close(1000))
    client.read()
    assert client.stream.closed
    assert service.seen == ["open", "a"]
    busy.callback(None)
    assert service.seen == ["open", "a", "b", (1000, "")]


def test_a_handler_that_does_not_end_with_its_connection_is_cancelled():
    cancelled = []
    service = Recorder(None, Deferred(cancelled.append), None)
    client = connect(service, WebSocketPolicy(close_timeout=2.0))
    client.send(text("a") + text("b"))
    client.stream.lose(ConnectionLost())
    client.wait(1.9)
    assert cancelled == []
    with capturedLogs() as events:
        client.wait(0.3)
    assert len(cancelled) == 1
    assert service.seen == ["open", "a", (1006, "")]
    assert events == []
    assert len(client.timers) == 0


def test_an_on_close_that_does_not_end_is_cancelled_as_well():
    cancelled = []
    client = connect(Recorder(None, Deferred(cancelled.append)), WebSocketPolicy(close_timeout=2.0))
    client.stream.lose()
    client.wait(2.2)
    assert len(cancelled) == 1
    assert len(client.timers) == 0


def test_each_handler_that_does_not_end_has_its_own_time():
    cancelled = []
    answers = (None, Deferred(cancelled.append), Deferred(cancelled.append))
    client = connect(Recorder(*answers), WebSocketPolicy(close_timeout=2.0))
    client.send(text("a"))
    client.stream.lose()
    client.wait(2.2)
    assert len(cancelled) == 1
    client.wait(2.2)
    assert len(cancelled) == 2
    assert len(client.timers) == 0


def test_a_coroutine_that_loses_the_race_with_the_end_is_no_defect():
    go = Deferred()

    class Service(WebSocketService):
        async def on_message(self, socket, message):
            await go
            await socket.send(message)

    client = connect(Service())
    client.send(text("a"))
    client.stream.lose()
    with capturedLogs() as events:
        go.callback(None)
    assert events == []


# -- a client that does not read


def test_a_client_that_does_not_read_is_not_read_from_and_what_it_sent_waits():
    client = connect(mark=1000)
    client.send(frame(BINARY, bytes(500)) * 10)
    assert not client.stream.reading
    assert len(client.read()) == 2
    assert len(client.read()) == 2
    assert not client.stream.reading
    while client.read():
        pass
    assert client.stream.reading
    assert client.stream.most_unsent < 1100
    assert client.server.state == "open"


def test_a_client_that_fills_its_buffer_with_the_handshake_already_is_not_read_from():
    client = Client(EchoService(), mark=300)
    client.request(behind=frame(BINARY, bytes(200)) * 3)
    assert client.server.full
    assert not client.stream.reading


def test_a_client_that_reads_gets_any_number_of_messages_sent_in_one_go():
    client = connect()
    client.send(frame(BINARY, bytes(10)) * 5_000)
    received = 0
    while frames := client.read():
        received += len(frames)
    assert received == 5_000


def test_a_transport_that_empties_in_the_middle_of_a_write_does_not_confuse_anybody():
    client = connect(mark=1)
    write = client.stream.write

    def write_and_empty(data):
        write(data)
        client.stream.take()

    client.stream.write = write_and_empty
    client.stream.received = b""
    client.send(text("a") + text("b"))
    assert read_frames(client.stream.received) == [(TEXT, b"a"), (TEXT, b"b")]


def test_send_fires_at_once_while_the_client_keeps_up_and_else_when_it_has_read():
    service = Recorder()
    client = connect(service, mark=1000)
    assert service.socket.send(b"x").called
    waiting = [service.socket.send(bytes(1000)), service.socket.send("y")]
    assert not any(delivery.called for delivery in waiting)
    client.read()
    assert all(delivery.called for delivery in waiting)
    assert service.socket.send(b"x").called


@pytest.mark.parametrize(
    ("policy", "message", "fits"),
    [
        (WebSocketPolicy(queue_messages=5), b"x", 5),
        (WebSocketPolicy(queue_bytes=1000), bytes(400), 2),
    ],
)
def test_a_slow_consumer_is_closed_with_1013_and_aborted_if_it_does_not_even_read_that(policy, message, fits):
    service = Recorder()
    client = connect(service, policy, mark=100)
    for sent in [bytes(101), *([message] * 20)]:
        service.socket.send(sent)
    assert client.look()[1:] == [(BINARY, message)] * fits + [closed(1013, b"reading too slowly")]
    assert client.server.ending.rule == "websocket_queue"
    assert not service.socket.open
    client.wait(5.2)
    assert client.stream.aborted
    client.stream.lose(ConnectionLost())
    assert service.seen[-1] == (1013, "reading too slowly")


def test_the_queue_is_counted_anew_when_the_client_has_read():
    service = Recorder()
    client = connect(service, WebSocketPolicy(queue_messages=5), mark=100)
    for _ in range(4):
        for message in [bytes(101), *([b"x"] * 5)]:
            service.socket.send(message)
        client.read()
    assert service.socket.open


def test_a_message_larger_than_the_queue_may_be_sent():
    service = Recorder()
    client = connect(service, WebSocketPolicy(max_message=1000, queue_bytes=1000))
    service.socket.send(bytes(70_000))
    assert client.read() == [(BINARY, bytes(70_000))]


def test_what_cannot_be_delivered_fails_for_who_waits_and_disturbs_nobody_else():
    service = Recorder()
    client = connect(service, mark=10)
    with capturedLogs() as events:
        failed = []
        service.socket.send(bytes(100))
        service.socket.send(b"x").addErrback(failed.append)
        client.stream.lose(ConnectionLost())
        service.socket.send(b"x")
        service.socket.send(b"x").addErrback(failed.append)
        gc.collect()
    assert [failure.type for failure in failed] == [SocketClosed, SocketClosed]
    assert events == []


@pytest.mark.parametrize("message", [5, None, ["x"]])
def test_only_text_and_bytes_can_be_sent(message):
    service = Recorder()
    connect(service)
    with pytest.raises(TypeError):
        service.socket.send(message)


# -- a service that is busy


@pytest.mark.parametrize(
    ("policy", "message", "waiting"),
    [
        (WebSocketPolicy(queue_messages=3), b"x", 3),
        (WebSocketPolicy(queue_bytes=250), bytes(100), 3),
    ],
)
def test_a_busy_service_is_not_flooded(policy, message, waiting):
    busy = Deferred()
    service = Recorder(None, busy)
    client = connect(service, policy)
    client.send(frame(BINARY, message) * 10)
    assert not client.stream.reading
    assert len(client.server._handlers) == waiting
    busy.callback(None)
    assert service.seen == ["open"] + [message] * 10
    assert client.stream.reading


def test_a_busy_service_does_not_keep_pings_from_being_answered():
    client = connect(Recorder(None, Deferred()))
    client.send(text("a"), frame(PING, b"?"))
    assert client.read() == [(PONG, b"?")]


def test_when_a_busy_service_closes_what_the_client_had_sent_behind_its_messages_is_seen():
    """Otherwise the client's Close, unparsed behind messages that wait, would be waited for in vain."""
    service = Recorder(None, Deferred())
    client = connect(service, WebSocketPolicy(queue_messages=1))
    client.send(text("a") * 5 + close(1000))
    assert client.look() == []
    service.socket.close(4000)
    assert client.read() == [closed(4000)]
    assert client.stream.closed
