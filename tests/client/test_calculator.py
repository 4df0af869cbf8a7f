import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import connect, makeFakeClient, makeFakeServer

from netapp.client.calculator import CalculatorClient, CalculatorError
from netapp.errors import DeadlineExceeded, LimitExceeded, ProtocolViolation
from netapp.protocols.calculator import CalculatorFactory, CalculatorPolicy
from netapp.protocols.calculator_pb2 import (
    AddResponse,
    ClientMessage,
    EchoMessage,
    ErrorResponse,
    ServerMessage,
)
from netapp.protocols.framing import FRAMERS, HEADERS
from netapp.timers import Timers
from tests.support.stream import Stream

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
FRAMINGS = ["varint", "int32"]


def frame(message, framing="varint"):
    payload = message if isinstance(message, bytes) else message.SerializeToString()
    return HEADERS[framing][len(payload)] + payload


def summed(result):
    return frame(ServerMessage(add_response=AddResponse(result=result)))


def echoed(text):
    return frame(ServerMessage(echo_message=EchoMessage(content=text)))


def refused(code, text):
    return frame(ServerMessage(error_response=ErrorResponse(code=code, text=text)))


class Rig:
    """A client, its clock, and a server that a test plays."""

    def __init__(self, **options):
        self.clock = Clock()
        self.client = CalculatorClient(self.clock, **options)
        self.server = Stream(self.client)

    def asked(self):
        return [ClientMessage.FromString(payload) for payload in FRAMERS["varint"](2**20).feed(self.server.take_all())]

    def answer(self, *answers):
        self.server.send(b"".join(answers))


@pytest.fixture
def rig():
    return Rig()


def results(*waiting):
    """What each Deferred has become so far."""
    found = []
    for deferred in waiting:
        fired = []
        deferred.addBoth(fired.append)
        found.extend(fired or ["waiting"])
    return found


def failure(deferred, kind):
    (result,) = results(deferred)
    assert isinstance(result, Failure)
    assert result.check(kind), result
    return result.value


# Asking and being answered


def test_a_request_is_sent_at_once(rig):
    rig.client.add(2, 3)
    rig.client.echo("hello")
    first, second = rig.asked()
    assert (first.add_request.a, first.add_request.b) == (2, 3)
    assert second.echo_message.content == "hello"


def test_answers_go_to_the_requests_in_their_order(rig):
    waiting = rig.client.add(1, 1), rig.client.echo("a"), rig.client.add(2, 2), rig.client.echo("")
    assert rig.client.outstanding == 4
    rig.answer(summed(2), echoed("a"))
    assert results(*waiting) == [2, "a", "waiting", "waiting"]
    rig.answer(summed(0), echoed(""))
    assert results(*waiting[2:]) == [None, None]  # the values went to the callbacks above
    assert rig.client.outstanding == 0


@pytest.mark.parametrize("framing", FRAMINGS)
def test_it_understands_the_server(framing):
    clock = Clock()
    factory = CalculatorFactory(CalculatorPolicy(framing=framing), Timers(clock, clock.seconds), clock=clock)
    server, client = factory.buildProtocol(None), CalculatorClient(clock, framing)
    pump = connect(server, makeFakeServer(server), client, makeFakeClient(client))
    waiting = [client.add(number, 1) for number in range(500)]
    waiting += [client.echo("é" * 1000), client.add(INT32_MAX, 1), client.add(INT32_MIN, INT32_MAX)]
    pump.flush()
    *sums, echo, overflow, last = results(*waiting)
    assert sums == list(range(1, 501))
    assert echo == "é" * 1000
    assert overflow.check(CalculatorError)
    assert overflow.value.code == ErrorResponse.OVERFLOW
    assert last == -1
    closed = client.close()
    pump.flush()
    assert results(closed) == [None]


@given(st.lists(st.integers(INT32_MIN, INT32_MAX), min_size=1), st.integers(1, 9))
def test_no_split_changes_the_answers(numbers, size):
    rig = Rig()
    waiting = [rig.client.add(0, 0) for _ in numbers]
    data = b"".join(summed(number) for number in numbers)
    for start in range(0, len(data), size):
        rig.answer(data[start : start + size])
    assert results(*waiting) == numbers


def test_what_the_server_refused_has_its_code_and_text(rig):
    refusal, after = rig.client.add(INT32_MAX, 1), rig.client.add(1, 1)
    rig.answer(refused(ErrorResponse.OVERFLOW, "too much"), summed(2))
    error = failure(refusal, CalculatorError)
    assert (error.code, error.text) == (ErrorResponse.OVERFLOW, "too much")
    assert str(error) == "OVERFLOW: too much"
    assert results(after) == [2]


def test_a_code_of_a_newer_server_is_shown_as_a_number(rig):
    refusal = rig.client.echo("x")
    rig.answer(refused(99, "new"))
    assert str(failure(refusal, CalculatorError)) == "code 99: new"


def test_a_callback_may_ask_again(rig):
    chained = rig.client.add(1, 1).addCallback(lambda value: rig.client.add(value, 1))
    rig.answer(summed(2))
    assert results(chained) == ["waiting"]
    rig.answer(summed(3))
    assert rig.client.outstanding == 0


# What is not sent


@pytest.mark.parametrize(("a", "b"), [(INT32_MAX + 1, 0), (0, INT32_MIN - 1), (2**70, 0)])
def test_a_number_outside_int32_is_not_sent(rig, a, b):
    assert "out of range" in str(failure(rig.client.add(a, b), ValueError))
    assert rig.asked() == []
    assert rig.client.outstanding == 0


@pytest.mark.parametrize("numbers", [(INT32_MAX, INT32_MIN), (0, 0)])
def test_every_int32_is_sent(rig, numbers):
    rig.client.add(*numbers)
    (asked,) = rig.asked()
    assert (asked.add_request.a, asked.add_request.b) == numbers


def test_what_is_no_number_or_no_text_is_not_sent(rig):
    failure(rig.client.add("1", 2), TypeError)
    failure(rig.client.add(0.5, 2), TypeError)
    failure(rig.client.echo(1), TypeError)
    failure(rig.client.echo("\ud800"), ValueError)
    assert rig.asked() == []


def test_a_text_that_could_not_come_back_is_not_sent():
    rig = Rig(max_frame=100)
    rig.client.echo("x" * 96)
    assert failure(rig.client.echo("x" * 97), LimitExceeded).rule == "max_frame"
    assert len(rig.asked()) == 1


def test_requests_without_an_answer_are_bounded():
    rig = Rig(max_outstanding=2)
    first, second = rig.client.add(1, 1), rig.client.add(2, 2)
    first.addErrback(lambda _: None)
    first.cancel()
    assert failure(rig.client.add(3, 3), LimitExceeded).rule == "max_outstanding"
    rig.answer(summed(2))
    third = rig.client.add(3, 3)
    rig.answer(summed(4), summed(6))
    assert results(second, third) == [4, 6]


# Cancelling and timeouts


def test_the_answer_to_a_cancelled_request_goes_to_nobody(rig):
    first, second, third = (rig.client.add(number, 0) for number in range(3))
    second.cancel()
    failure(second, CancelledError)
    assert rig.client.outstanding == 3
    rig.answer(summed(0), refused(ErrorResponse.OVERFLOW, "nobody hears this"), summed(2))
    assert results(first, third) == [0, 2]


def test_an_answer_that_is_late_fails_its_request_only(rig):
    first, second = rig.client.add(1, 1, timeout=5), rig.client.echo("x", timeout=7)
    rig.clock.advance(5)
    error = failure(first, DeadlineExceeded)
    assert (error.rule, str(error)) == ("request", "no answer within 5 s")
    rig.answer(summed(2), echoed("x"))
    assert results(second) == ["x"]
    assert rig.clock.getDelayedCalls() == []


def test_a_cancelled_request_is_no_longer_timed(rig):
    request = rig.client.add(1, 1, timeout=5)
    request.cancel()
    failure(request, CancelledError)
    assert rig.clock.getDelayedCalls() == []


# Losing the connection


def test_a_lost_connection_fails_every_request_with_its_reason(rig):
    waiting = [rig.client.add(1, 1), rig.client.echo("x", timeout=5)]
    rig.answer(summed(2)[:2])
    rig.server.lose(ConnectionLost("cut"))
    for request in waiting:
        assert "cut" in str(failure(request, ConnectionLost))
    assert rig.clock.getDelayedCalls() == []
    failure(rig.client.add(1, 1), ConnectionLost)


def test_asking_again_when_the_connection_is_lost_fails_at_once(rig):
    again = []
    rig.client.add(1, 1).addErrback(lambda _: again.append(rig.client.add(2, 2)))
    rig.server.lose()
    failure(again[0], ConnectionDone)


def test_before_there_is_a_connection_requests_fail():
    client = CalculatorClient()
    failure(client.add(1, 1), ConnectionLost)
    assert results(client.close()) == [None]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (echoed("x"), "echo_message"),
        (frame(b""), "nothing"),
        (frame(b"\xff"), "not a ServerMessage"),
        (b"\xff" * 5, "length"),
    ],
)
def test_a_server_out_of_step_is_left_and_every_request_fails(rig, answer, said):
    first, second = rig.client.add(1, 1), rig.client.add(2, 2)
    rig.answer(answer)
    assert rig.server.aborted
    assert said in str(failure(first, ProtocolViolation))
    failure(second, ProtocolViolation)
    failure(rig.client.add(3, 3), ProtocolViolation)


def test_an_answer_to_nothing_costs_no_request_that_had_its_own(rig):
    request = rig.client.add(1, 1)
    rig.answer(summed(2) + summed(3))
    assert results(request) == [2]
    assert rig.server.aborted
    assert "add_response" in str(failure(rig.client.add(1, 1), ProtocolViolation))


def test_a_client_that_has_left_is_closed_once_the_connection_is_gone(rig):
    rig.answer(summed(1))
    closed = rig.client.close()
    assert results(closed) == ["waiting"]
    rig.server.lose()
    assert results(rig.client.close()) == [None]


def test_an_answer_over_the_limit_is_left(rig):
    request = rig.client.echo("x")
    rig.answer(HEADERS["varint"][2**30])
    failure(request, LimitExceeded)
    assert rig.server.aborted


# Closing


def test_closing_waits_for_the_answers_that_are_due(rig):
    first, second = rig.client.add(1, 1), rig.client.add(2, 2)
    closed = rig.client.close()
    failure(rig.client.add(3, 3), ConnectionDone)
    rig.answer(summed(2))
    rig.server.take()
    assert not rig.server.closed
    rig.answer(summed(4))
    rig.server.take()
    assert rig.server.closed
    assert results(first, second, closed) == [2, 4, None]


def test_closing_does_not_wait_for_answers_that_nobody_waits_for(rig):
    cancelled, late = rig.client.add(1, 1), rig.client.add(2, 2, timeout=5)
    cancelled.cancel()
    closed = rig.client.close()
    rig.server.take()
    assert not rig.server.closed
    rig.clock.advance(5)
    rig.server.take()
    assert results(closed) == [None]
    failure(cancelled, CancelledError)
    failure(late, DeadlineExceeded)


def test_closing_twice_tells_both(rig):
    waiting = rig.client.close(), rig.client.close()
    rig.server.take()
    assert results(*waiting, rig.client.close()) == [None, None, None]


def test_a_connection_lost_while_closing_is_closed(rig):
    request, closed = rig.client.add(1, 1), rig.client.close()
    rig.server.lose(ConnectionLost())
    assert results(closed) == [None]
    failure(request, ConnectionLost)


def test_cancelling_the_close_cuts_the_connection(rig):
    request, closed = rig.client.add(1, 1), rig.client.close()
    closed.cancel()
    failure(closed, CancelledError)
    assert rig.server.aborted
    rig.server.lose()
    failure(request, ConnectionDone)


# Connecting


@pytest.mark.parametrize("kind", ["description", "endpoint"])
def test_it_connects_to_an_endpoint(kind):
    reactor = MemoryReactorClock()
    endpoint = "tcp:127.0.0.1:7777" if kind == "description" else TCP4ClientEndpoint(reactor, "127.0.0.1", 7777)
    connecting = CalculatorClient.connect(reactor, endpoint, framing="int32", max_frame=200, max_outstanding=3)
    host, port, factory, *_ = reactor.tcpClients[0]
    assert (host, port) == ("127.0.0.1", 7777)
    server = Stream(factory.buildProtocol(None))
    (client,) = results(connecting)
    assert isinstance(client, CalculatorClient)
    answer = client.add(2, 3, timeout=1)
    assert FRAMERS["int32"](100).feed(server.take_all()) == [b"\x12\x04\x08\x02\x10\x03"]
    server.send(frame(b"\x12\x02\x08\x05", "int32"))
    assert results(answer) == [5]
    assert (client._max_frame, client._max_outstanding) == (200, 3)


def test_a_connection_that_fails_fails_the_connecting():
    reactor = MemoryReactorClock()
    connecting = CalculatorClient.connect(reactor, "tcp:127.0.0.1:7777")
    factory = reactor.tcpClients[0][2]
    factory.clientConnectionFailed(reactor.connectors[0], Failure(ConnectError()))
    failure(connecting, ConnectError)


def test_a_description_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        CalculatorClient.connect(MemoryReactorClock(), "nonsense:1")


def test_a_request_can_be_awaited(rig):
    async def ask():
        return await rig.client.add(1, 1) + await rig.client.add(2, 2)

    total = Deferred.fromCoroutine(ask())
    rig.answer(summed(2))
    rig.answer(summed(4))
    assert results(total) == [6]
