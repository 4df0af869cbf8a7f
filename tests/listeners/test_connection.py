"""One connection from its opening to the line that says how it ended, on a clock."""

import errno
import gc
import weakref

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, ProtocolViolation
from netapp.listeners.connection import LAST_WORD
from netapp.listeners.detect import DETECTORS, Detection
from netapp.protocols.handover import replace_protocol
from tests.support.listening import Echoing, Events, Recorder, Recording
from tests.support.sockets import World


@pytest.fixture(autouse=True)
def events():
    with Events() as seen:
        yield seen
        assert len(seen.failures) == seen.expected, seen.failures


class Foreign(StringTransport):
    """A transport of another reactor: it tells its protocol, and knows nothing of owners."""

    def __init__(self, protocol):
        super().__init__()
        self.protocol = protocol
        self.aborted = False

    def abortConnection(self):
        self.aborted = True

    def deliver(self, data):
        self.protocol.dataReceived(data)

    def lose(self, reason=None):
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    connectionLost = lose


def foreign(world):
    """Open a connection on a foreign transport."""
    connection = world.listener.admit(Foreign(None).getPeer())
    transport = Foreign(connection)
    connection.makeConnection(transport)
    return connection, transport


# Hand-over


class Ordered(Recorder):
    """Notes what it is told, in order."""

    def __init__(self):
        super().__init__()
        self.log = []

    def set_peer(self, peer):
        self.log.append(("peer", peer.host))

    def connectionMade(self):
        super().connectionMade()
        self.log.append("made")

    def wind_down(self):
        self.log.append("wind down")

    def drain(self):
        self.log.append("drain")

    def dataReceived(self, data):
        self.log.append(data)


def test_a_protocol_knows_its_peer_before_anything_else_and_hears_of_the_end_of_serving():
    world = World(Recording(Ordered))
    world.listener.wind_down()
    world.listener.drain()
    accepted, _ = world.connect()
    accepted.feed(b"data")
    world.loop.turn()
    assert world.factory.made[0].log == [("peer", "192.0.2.7"), "made", "wind down", "drain", b"data"]


def test_the_transport_calls_the_protocol_itself():
    world = World(Recording(Echoing))
    accepted, connection = world.connect()
    [protocol] = world.factory.made
    assert connection.socket_transport.protocol is protocol
    assert connection.socket_transport.protocol.dataReceived == protocol.dataReceived
    assert protocol.transport is connection.socket_transport
    accepted.feed(b"hello")
    world.loop.turn()
    assert accepted.sent == b"hello"


def test_another_reactors_transport_calls_through_a_bound_method_only():
    world = World(Recording(Echoing))
    connection, transport = foreign(world)
    [protocol] = world.factory.made
    assert transport.protocol is connection
    assert connection.dataReceived == protocol.dataReceived
    transport.deliver(b"hello")
    assert transport.value() == b"hello"
    transport.lose()
    assert protocol.reason is not None
    assert world.ends() == {"peer_done": 1}
    world.assert_without_trace()
    connection.dataReceived(b"is ignored now")


def test_a_protocol_that_closes_at_once_is_not_given_what_was_read_ahead():
    class Leaving(Recorder):
        def connectionMade(self):
            super().connectionMade()
            self.transport.loseConnection()

    made = Recording(Leaving)
    world = World(detection=Detection([("http1", DETECTORS["http1"])]), factories={"http1": made})
    _, transport = foreign(world)
    transport.deliver(b"GET / HTTP/1.1\r\n")
    assert made.made[0].received == b""
    assert transport.disconnecting


@pytest.mark.parametrize("kind", ["ours", "foreign"])
def test_a_protocol_can_be_replaced(kind):
    class Successor(Echoing):
        ending = DeadlineExceeded("mine")
        state = "succeeding"

    world = World(Recording(Recorder))
    if kind == "ours":
        accepted, connection = world.connect()
    else:
        connection, _ = foreign(world)
    transport = connection.socket_transport
    successor = Successor()
    successor.factory = world.factory
    replace_protocol(transport, world.factory.made[0], successor)
    successor.makeConnection(transport)
    assert connection.protocol is successor
    assert connection.state == "succeeding"
    if kind == "ours":
        accepted.feed(b"hello", b"")
        world.loop.turn()
        assert accepted.sent == b"hello"
        world.loop.turn()
    else:
        transport.deliver(b"hello")
        assert transport.value() == b"hello"
        transport.lose()
    assert successor.reason is not None
    assert world.factory.made[0].reason is None
    assert world.ends() == {"policy_deadline": 1}
    world.assert_without_trace()


# Half-closing


@implementer(IHalfCloseableProtocol)
class Halves(Recorder):
    def __init__(self):
        super().__init__()
        self.log = []

    def readConnectionLost(self):
        self.log.append("read")

    def writeConnectionLost(self):
        self.log.append("write")


def test_who_half_closes_is_told_by_another_reactors_transport_too():
    world = World(Recording(Halves))
    connection, _ = foreign(world)
    connection.readConnectionLost()
    connection.writeConnectionLost()
    assert world.factory.made[0].log == ["read", "write"]
    assert world.ends() == {}


def test_who_does_not_half_close_is_lost_when_the_peer_closes_its_side():
    world = World(Recording(Recorder))
    connection, _ = foreign(world)
    connection.writeConnectionLost()
    connection.readConnectionLost()
    assert isinstance(world.factory.made[0].reason, ConnectionDone)
    assert world.ends() == {"peer_done": 1}


def test_who_raises_when_the_peer_closes_its_side_is_closed(events):
    class Raising(Halves):
        def readConnectionLost(self):
            raise RuntimeError("a defect")

    events.expected = 1
    world = World(Recording(Raising))
    connection, transport = foreign(world)
    connection.readConnectionLost()
    assert transport.aborted
    transport.lose(ConnectionAborted())
    assert world.ends() == {"internal": 1}


# How it ended


@pytest.mark.parametrize(
    ("reason", "error", "declared", "end"),
    [
        (ConnectionDone(), None, None, "peer_done"),
        (ConnectionLost(), None, None, "peer_reset"),
        (ConnectionLost(), ConnectionResetError(errno.ECONNRESET, ""), None, "peer_reset"),
        (ConnectionLost(), TimeoutError(errno.ETIMEDOUT, ""), None, "peer_timed_out"),
        (ConnectionDone(), BrokenPipeError(errno.EPIPE, ""), None, "peer_reset"),
        (ConnectionDone(), None, ProtocolViolation("?"), "protocol_violation"),
        (ConnectionLost(), ConnectionResetError(errno.ECONNRESET, ""), ProtocolViolation("?"), "protocol_violation"),
        (ConnectionAborted(), DeadlineExceeded("write_timeout"), None, "policy_deadline"),
        (RuntimeError("a defect"), None, None, "internal"),
        (OSError(errno.EMFILE, ""), None, None, "system"),
    ],
)
def test_how_it_ended_is_what_was_declared_or_else_what_broke_it(reason, error, declared, end):
    world = World(Recording(Recorder))
    connection, transport = foreign(world)
    transport.error = error
    world.factory.made[0].ending = declared
    transport.lose(reason)
    assert world.ends() == {end: 1}
    assert connection.state == "closed"


@pytest.mark.parametrize(
    ("closed_here", "peer_closed", "end"),
    [(False, True, "peer_done"), (True, False, "local_done"), (True, True, "peer_done")],
)
def test_who_closed_first_has_closed(closed_here, peer_closed, end):
    world = World(Recording(Recorder))
    _, transport = foreign(world)
    transport.closed_here, transport.peer_closed = closed_here, peer_closed
    transport.lose()
    assert world.ends() == {end: 1}


def test_a_defect_in_connection_lost_is_an_internal_end(events):
    class Raising(Recorder):
        def connectionLost(self, reason):
            raise RuntimeError("a defect")

    events.expected = 2
    world = World(Recording(Raising))
    _, transport = foreign(world)
    transport.lose()
    accepted, _ = world.connect()
    accepted.feed(b"")
    world.loop.turn()
    assert accepted.closed
    assert world.ends() == {"internal": 2}
    world.assert_without_trace()


def test_an_end_is_told_once():
    world = World(Recording(Recorder))
    _, transport = foreign(world)
    transport.lose()
    transport.lose()
    assert world.ends() == {"peer_done": 1}
    assert world.listener.admission.open == 0


# Idleness


def test_idleness_is_noticed_not_early_and_at_most_a_quarter_late():
    world = World(Recording(Recorder), idle_timeout=100.0)
    for begin in (0.0, 3.0, 10.0, 24.0):
        accepted, connection = world.connect(address=("192.0.2.7", int(begin)))
        world.loop.advance(begin)
        accepted.feed(b"the last byte")
        world.loop.turn()
        since = world.loop.seconds()
        while connection.ending is None:
            world.loop.advance(0.5)
        assert 100 <= world.loop.seconds() - since <= 128  # half a second for each look, which is this test's doing
        assert "idle_timeout" in str(connection.ending)
        world.loop.turn()
    assert world.ends() == {"policy_deadline": 4}
    world.assert_without_trace()


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_byte_in_either_direction_is_life(direction):
    world = World(Recording(Recorder), idle_timeout=100.0)
    accepted, connection = world.connect()
    for _ in range(20):
        world.loop.advance(90)
        if direction == "in":
            accepted.feed(b"x")
        else:
            connection.socket_transport.write(b"x")
        world.loop.turn()
    assert world.ends() == {}


def test_an_idle_connection_has_a_last_word_and_then_is_cut():
    world = World(Recording(Recorder), idle_timeout=100.0, write_timeout=0.0)
    accepted, connection = world.connect(*[0] * 1000)
    connection.socket_transport.write(b"into nothing")
    while connection.ending is None:
        world.loop.advance(1)
        world.loop.turn()
    world.loop.advance(LAST_WORD - 0.1)
    world.loop.turn()
    assert not accepted.closed
    world.loop.advance(0.2)
    world.loop.turn()
    assert accepted.closed
    assert world.ends() == {"policy_deadline": 1}
    world.assert_without_trace()


def test_without_an_idle_timeout_there_is_no_deadline():
    world = World(Recording(Recorder))
    world.connect()
    assert len(world.timers) == 0


# Draining and looking


@pytest.mark.parametrize("hook", ["wind_down", "drain"])
def test_a_hook_that_raises_costs_only_its_connection(events, hook):
    class Raising(Recorder):
        pass

    def defect(self):
        raise RuntimeError("a defect")

    setattr(Raising, hook, defect)
    events.expected = 1
    world = World(Recording(Raising))
    world.connect()
    getattr(world.listener, hook)()
    world.loop.turn()
    assert world.ends() == {"internal": 1}


def test_a_connection_without_hooks_goes_on():
    world = World(Recording(Recorder))
    world.connect()
    world.listener.wind_down()
    world.listener.drain()
    world.loop.turn()
    assert world.ends() == {}


def test_a_connection_that_is_cut_while_it_closes_keeps_its_reason_in_one_end():
    world = World(Recording(Recorder), idle_timeout=1.0, write_timeout=0.0)
    _, connection = world.connect(*[0] * 100)
    connection.socket_transport.write(b"into nothing")
    while connection.ending is None:
        world.loop.advance(1)
    connection.cut()
    connection.cut()
    world.loop.turn()
    assert world.ends() == {"policy_drain": 1}


def test_a_connection_describes_itself():
    world = World(Recording(Echoing), kind="echo")
    accepted, connection = world.connect()
    accepted.feed(b"hello")
    world.loop.turn()
    world.loop.advance(2.5)
    assert connection.as_dict(world.timers.now()) == {
        "id": "here-1",
        "listener": "here",
        "peer": "192.0.2.7:1111",
        "proxy": None,
        "protocol": "echo",
        "tls": None,
        "state": "open",
        "age": 2.5,
        "bytes_in": 5,
        "bytes_out": 5,
    }


@pytest.mark.parametrize("holding", [False, True])
def test_a_connection_that_has_ended_is_kept_by_nothing_of_ours(events, holding):
    """Not even by a cycle: memory is free at once, and not when the collector comes."""

    class Mortal(Recorder):
        pass

    world = World(Recording(Mortal), idle_timeout=10.0)
    _, connection = world.connect()
    transport = connection.socket_transport
    last = weakref.ref(transport)
    if holding:
        transport.pauseProducing()
        transport.hold(transport.protocol.connectionMade)
    gc.disable()
    try:
        transport.connectionLost(Failure(ConnectionDone()))
        world.factory.made.clear()
        events.all.clear()
        del transport, connection
        assert last() is None
    finally:
        gc.enable()
