"""Ports against a kernel that a test plays."""

import errno
import socket

import pytest
from twisted.internet import address as addresses
from twisted.internet.protocol import Factory, Protocol

from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import Detection
from netapp.listeners.port import ACCEPTS, FIRST_PAUSE, LAST_PAUSE, ListeningReactor
from tests.support.listening import Events, Recorder, Recording
from tests.support.sockets import FakeListening, FakeSocket, World


@pytest.fixture(autouse=True)
def events():
    with Events() as seen:
        yield seen
        assert len(seen.failures) == seen.expected, seen.failures


def shortage(number=errno.EMFILE):
    return OSError(number, "no more")


def test_a_port_that_cannot_accept_pauses_longer_each_time_and_then_recovers(events):
    world = World(Recording(Recorder))
    world.port.socket.feed(*[shortage()] * 10)
    pauses = []
    world.loop.turn()
    while world.port not in world.loop.readers:
        [call] = world.loop.getDelayedCalls()
        pauses.append(call.getTime() - world.loop.seconds())
        world.loop.advance(pauses[-1] - 0.001)
        assert world.port not in world.loop.readers
        world.loop.advance(0.002)
        world.loop.turn()
    assert pauses == pytest.approx([min(FIRST_PAUSE * 2**number, LAST_PAUSE) for number in range(10)])
    assert world.value("netapp_accept_pauses_total", "here", "EMFILE") == 10
    warnings = [event for event in events.all if event["log_level"].name == "warn"]
    assert len(warnings) == 10
    assert world.connect()[1] is not None
    world.port.socket.feed(shortage(errno.ENFILE))
    world.loop.turn()
    [call] = world.loop.getDelayedCalls()
    assert call.getTime() - world.loop.seconds() == pytest.approx(FIRST_PAUSE), "it begins anew"
    assert world.value("netapp_accept_pauses_total", "here", "ENFILE") == 1


def test_a_port_that_closes_while_it_pauses_is_not_resumed():
    world = World(Recording(Recorder))
    world.port.socket.feed(shortage(), shortage(), shortage())
    world.loop.turn()
    closed = world.port.close_in_order()
    world.loop.advance(1)
    world.loop.advance(1)
    assert closed.called
    assert world.loop.getDelayedCalls() == []
    assert world.port not in world.loop.readers


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN])
def test_an_error_of_one_connection_keeps_nobody_else_waiting(number):
    world = World(Recording(Recorder))
    world.port.socket.feed(OSError(number, "its own"))
    assert world.connect()[1] is not None
    assert world.loop.getDelayedCalls() == []


def test_a_turn_accepts_a_bounded_number():
    """So that a flood of newcomers does not starve those who are served."""
    world = World(Recording(Recorder))
    world.port.socket.feed(*[(FakeSocket(), ("192.0.2.7", port)) for port in range(ACCEPTS + 10)])
    world.loop.turn()
    assert len(world.listener.connections) == ACCEPTS
    world.loop.turn()
    assert len(world.listener.connections) == ACCEPTS + 10


def test_a_port_that_closes_accepts_who_is_queued_but_not_for_ever():
    class Flooded(FakeListening):
        def accept(self):
            return FakeSocket(), ("192.0.2.7", 1)

    world = World(Recording(Recorder), admission=AdmissionPolicy(max_per_client=0))
    world.port.socket = Flooded()
    world.port.backlog = 300
    world.port.stopListening()
    world.loop.advance(0)
    assert world.port.backlog < len(world.listener.connections) <= world.port.backlog + ACCEPTS


def test_a_refused_connection_is_closed():
    world = World(Recording(Recorder), admission=AdmissionPolicy(deny=("192.0.2.0/24",)))
    accepted, connection = world.connect()
    assert connection is None
    assert accepted.closed


@pytest.mark.parametrize("failing", ["setblocking", "addReader"])
def test_a_connection_that_cannot_be_set_up_is_closed_and_gives_its_place_back(events, monkeypatch, failing):
    """Such as where epoll has no room for one more (ENOSPC, epoll_ctl(2))."""

    def refuse(*_):
        raise OSError(errno.ENOSPC, "no room")

    events.expected = 1
    world = World(Recording(Recorder))
    accepted = FakeSocket()
    monkeypatch.setattr(*(accepted, failing, refuse) if failing == "setblocking" else (world.loop, failing, refuse))
    world.port.socket.feed((accepted, ("192.0.2.7", 1)))
    world.loop.turn()
    monkeypatch.undo()
    assert accepted.closed
    assert world.ends() == {}
    world.assert_without_trace()
    assert world.connect()[1] is not None


def test_a_connection_that_fails_once_the_reactor_knows_it_is_taken_from_the_reactor(events):
    def first_byte(data):
        return data[0]

    events.expected = 1
    world = World(detection=Detection([("other", first_byte)]), factories={"other": Recording()})
    accepted, _ = world.connect()
    assert accepted.closed
    assert world.ends() == {"internal": 1}
    world.assert_without_trace()


def test_whoever_wraps_us_and_fails_costs_only_its_connection(events):
    """Endpoints such as ``haproxy:`` wrap the factory, and stumble over a connection that is refused."""

    class Wrapper(Protocol):
        wrapped = None

        def connectionMade(self):
            self.wrapped.makeConnection(self.transport)

        def connectionLost(self, reason):
            self.wrapped.connectionLost(reason)

    events.expected = 2
    world = World(Recording(Recorder))
    world.port.factory = Factory.forProtocol(Wrapper)
    accepted, _ = world.connect()
    assert accepted.closed
    world.assert_without_trace()


def test_a_link_local_peer_is_known_with_its_interface():
    world = World(Recording(Recorder))
    world.port._addressType = addresses.IPv6Address
    [number, name] = socket.if_nameindex()[0]
    _, connection = world.connect(address=("fe80::1", 1, 0, number))
    assert connection.peer.host == f"fe80::1%{name}"


def test_endpoints_get_our_ports_and_the_reactors_everything_else():
    world = World(Recording(Recorder))
    reactor = ListeningReactor(world.loop, world.listener)
    assert reactor.callLater == world.loop.callLater
    assert reactor.seconds() == world.loop.seconds()
