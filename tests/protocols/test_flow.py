import sys

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import alsoProvides, implementer

from netapp.protocols.flow import Flow, default_clock
from netapp.timers import Timers
from tests.support.stream import Stream


@implementer(IHalfCloseableProtocol)
class Plain(Protocol):
    """The least that a protocol does with a flow."""

    def __init__(self, timers, room=None):
        self.timers = timers
        self.room = room

    def connectionMade(self):
        self.flow = Flow(self.transport, self.timers, self.room)

    def dataReceived(self, data):
        self.transport.write(data)

    def readConnectionLost(self):
        self.flow.close()

    def writeConnectionLost(self):
        self.flow.flushed()

    def connectionLost(self, reason=None):
        self.flow.lost()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timers(clock):
    return Timers(clock, clock.seconds)


@pytest.fixture
def plain(timers):
    return Plain(timers)


@pytest.fixture
def stream(plain):
    return Stream(plain, mark=100)


def test_a_full_buffer_stops_reading_and_an_empty_one_starts_it(stream, plain):
    stream.send(b"x" * 100)
    assert (plain.flow.full, stream.reading) == (False, True)
    stream.send(b"x")
    assert (plain.flow.full, stream.reading) == (True, False)
    stream.take()
    assert (plain.flow.full, stream.reading) == (False, True)


def test_a_hold_stops_reading_until_it_is_released(stream, plain):
    plain.flow.hold()
    plain.flow.hold()
    assert not stream.reading
    plain.flow.release()
    assert stream.reading


def test_reading_goes_on_only_when_neither_reason_against_it_holds(stream, plain):
    plain.flow.hold()
    stream.write(b"x" * 101)
    plain.flow.release()
    assert not stream.reading
    plain.flow.hold()
    stream.take()
    assert not stream.reading
    plain.flow.release()
    assert stream.reading


def test_room_is_told_to_whoever_holds_reading_and_to_nobody_else(timers):
    calls = []
    plain = Plain(timers, lambda: calls.append("room"))
    stream = Stream(plain, mark=100)
    stream.send(b"x" * 101)
    stream.take()
    assert calls == []
    plain.flow.hold()
    stream.write(b"x" * 101)
    stream.take()
    assert calls == ["room"]


def test_close_sends_what_is_buffered_first(stream, plain):
    stream.send(b"x" * 101)
    plain.flow.close()
    assert not stream.closed
    assert stream.take_all() == b"x" * 101
    assert stream.closed


def test_finish_sends_everything_then_ends_our_side_and_reads_on(stream, plain):
    stream.send(b"x" * 101)
    plain.flow.finish()
    plain.flow.finish()
    assert (stream.reading, stream.ended) == (False, False)
    assert stream.take_all() == b"x" * 101
    assert (stream.reading, stream.ended, stream.closed) == (True, True, False)


def test_what_comes_in_after_finish_puts_nothing_off(stream, plain):
    """Nothing is read before our answers are out; what is read after that cannot be answered any more."""
    stream.send(b"x" * 50)
    plain.flow.finish()
    assert stream.send(b"more") == b"more"
    assert stream.take_all() == b"x" * 50
    assert stream.send(b"more") == b""
    assert stream.take_all() == b"x" * 50


def test_a_lingering_connection_closes_when_the_peer_does(stream, plain, clock):
    plain.flow.finish()
    stream.take()
    stream.end()
    stream.take()
    assert stream.closed
    assert not plain.flow.slot


def test_a_lingering_connection_closes_when_its_time_is_over(stream, plain, clock):
    plain.flow.finish(linger=2)
    stream.take()
    clock.pump([0.1] * 19)
    assert not stream._closing
    clock.pump([0.1] * 3)
    assert stream._closing
    stream.take()
    assert stream.closed


def test_no_linger_closes_at_once(stream, plain):
    stream.send(b"answer")
    plain.flow.finish(linger=0)
    assert stream.take_all() == b"answer"
    assert (stream.ended, stream.closed) == (False, True)


def test_tls_is_closed_whole_and_may_read_the_peers_goodbye(stream, plain):
    alsoProvides(stream, ISSLTransport)
    resumed = []
    stream.resumeProducing = lambda: resumed.append(stream._closing)
    stream.send(b"x" * 101)
    plain.flow.finish()
    assert resumed == [False]
    assert stream._closing
    assert not stream._ending


def test_a_transport_that_cannot_half_close_is_closed(timers):
    plain = Plain(timers)
    transport = StringTransport()
    plain.makeConnection(transport)
    plain.flow.finish()
    assert transport.disconnecting
    assert transport.producer is None


def test_a_lost_connection_leaves_nothing_behind(stream, plain, clock, timers):
    plain.flow.finish()
    stream.lose()
    assert plain.flow.slot == 0
    assert not any(timers._buckets.values())
    plain.flow.hold()
    plain.flow.release()
    plain.flow.finish()


def test_losing_the_connection_stops_the_producer(stream, plain):
    stream.lose()
    assert plain.flow.closing


def test_the_default_clock_is_the_reactor():
    assert default_clock() is sys.modules["twisted.internet.reactor"]
