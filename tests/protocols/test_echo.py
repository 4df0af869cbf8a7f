import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from netapp.errors import Draining
from netapp.protocols.echo import Echo, EchoFactory
from netapp.timers import Timers
from tests.support.stream import READ, Stream


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def echo(clock):
    return EchoFactory(Timers(clock, clock.seconds)).buildProtocol(None)


@pytest.fixture
def stream(echo):
    return Stream(echo)


@given(st.lists(st.binary(max_size=50)))
def test_everything_comes_back_as_it_was_sent(pieces):
    clock = Clock()
    stream = Stream(Echo(Timers(clock)))
    for piece in pieces:
        stream.send(piece)
    assert stream.take_all() == b"".join(pieces)


def test_a_read_is_one_write_and_arms_nothing(stream, clock):
    stream.send(b"hello")
    assert stream.writes == [b"hello"]
    assert clock.getDelayedCalls() == []


def test_a_peer_that_does_not_read_is_not_read_from(stream):
    data = bytes(range(256)) * 8192
    rest = stream.send(data)
    assert not stream.reading
    assert stream.most_unsent <= 2 * READ
    while rest:
        stream.take()
        rest = stream.send(rest)
        assert stream.most_unsent <= 2 * READ
    assert stream.take_all() == data


def test_at_the_peers_end_everything_is_sent_before_we_close(stream):
    stream.send(b"x" * 1000)
    stream.end()
    assert not stream.closed
    assert stream.take_all() == b"x" * 1000
    assert stream.closed


def test_the_peers_end_is_no_fault(stream, echo):
    stream.end()
    stream.take()
    assert echo.ending is None


def test_draining_sends_everything_then_ends_our_side(stream, echo, clock):
    stream.send(b"x" * 100_000)
    echo.drain()
    echo.drain()
    assert isinstance(echo.ending, Draining)
    assert stream.take_all() == b"x" * 100_000
    assert stream.ended
    stream.send(b"too late")
    assert stream.take_all() == b"x" * 100_000
    clock.pump([0.1] * 25)
    stream.take()
    assert stream.closed


def test_draining_ends_when_the_peer_closes(stream, echo):
    echo.drain()
    stream.take()
    stream.end()
    stream.take()
    assert stream.closed


def test_its_state_is_one_word(echo):
    assert echo.state == "closing"
    stream = Stream(echo)
    assert echo.state == "active"
    echo.drain()
    assert echo.state == "closing"
    stream.lose()
    assert echo.state == "closing"


def test_draining_before_and_after_the_connection_does_nothing(echo):
    echo.drain()
    stream = Stream(echo)
    stream.lose(ConnectionLost())
    echo.drain()
    assert echo.ending is None


def test_it_works_alone_in_any_program():
    factory = EchoFactory()
    echo, other = factory.buildProtocol(None), factory.buildProtocol(None)
    assert echo._timers is other._timers
    assert echo.factory is factory
    assert verifyObject(IHalfCloseableProtocol, echo)
    transport = StringTransport()
    echo.makeConnection(transport)
    echo.dataReceived(b"hello")
    assert transport.value() == b"hello"
    echo.connectionLost(Failure(ConnectionLost()))
