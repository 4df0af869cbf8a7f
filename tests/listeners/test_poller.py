"""One entry in the reactor for many connections: real descriptors, a reactor that is turned by hand."""

import socket

import pytest
from twisted.internet import main
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from netapp.listeners.poller import BATCH, Poller


class Reactor:
    def __init__(self):
        self.readers = []

    def addReader(self, reader):
        self.readers.append(reader)

    def removeReader(self, reader):
        self.readers.remove(reader)

    def callLater(self, delay, function):
        return (delay, function)


class Transport:
    """One end of a socket pair that notes what it is told; ``peer`` is the other."""

    def __init__(self, poller):
        self.poller = poller
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.fileno = self.socket.fileno
        self.log = []
        poller.addReader(self)

    def doRead(self):
        data = self.socket.recv(100)
        self.log.append(data)
        return None if data else main.CONNECTION_DONE

    def doWrite(self):
        self.log.append("write")
        self.poller.removeWriter(self)

    def readConnectionLost(self, reason):
        self.log.append("read lost")

    def connectionLost(self, reason):
        self.log.append(reason.type)
        self.poller.removeReader(self)
        self.poller.removeWriter(self)
        self.socket.close()

    def end(self):
        self.poller.removeReader(self)
        self.poller.removeWriter(self)
        self.socket.close()
        self.peer.close()


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def poller(reactor):
    made = Poller(reactor)
    yield made
    made.close()


@pytest.fixture
def transports(poller):
    made = []

    def make(count=1, kind=Transport):
        made.extend(kind(poller) for _ in range(count))
        return made[-count:]

    yield make
    for transport in made:
        transport.end() if transport.socket.fileno() != -1 else transport.peer.close()


def test_it_is_one_reader_to_the_reactor_whatever_it_holds(reactor, poller, transports):
    transports(3)
    assert reactor.readers == [poller]


def test_only_what_is_ready_is_called(poller, transports):
    idle, ready = transports(2)
    ready.peer.send(b"data")
    poller.doRead()
    assert (idle.log, ready.log) == ([], [b"data"])


def test_reading_can_be_paused_and_resumed(poller, transports):
    [one] = transports()
    poller.removeReader(one)
    one.peer.send(b"data")
    poller.doRead()
    assert one.log == []
    poller.addReader(one)
    poller.doRead()
    assert one.log == [b"data"]


def test_writing_is_called_while_it_is_wanted_and_reading_stays(poller, transports):
    [one] = transports()
    poller.addWriter(one)
    poller.doRead()
    poller.doRead()
    one.peer.send(b"data")
    poller.doRead()
    assert one.log == ["write", b"data"]


def test_the_peers_orderly_end_is_a_half_close(poller, transports):
    [one] = transports()
    one.peer.shutdown(socket.SHUT_WR)
    poller.doRead()
    assert one.log == [b"", "read lost"]


def test_a_hang_up_of_one_who_does_not_read_is_a_lost_connection(poller, transports):
    [one] = transports()
    poller.removeReader(one)
    one.doWrite = lambda: None  # it stays interested
    poller.addWriter(one)
    one.peer.close()
    one.socket.shutdown(socket.SHUT_RDWR)
    poller.doRead()
    assert one.log == [ConnectionLost]


def test_a_protocol_that_raises_costs_its_connection_and_no_other(poller, transports):
    class Broken(Transport):
        def doRead(self):
            raise ZeroDivisionError

    [broken] = transports(kind=Broken)
    [well] = transports()
    for transport in (broken, well):
        transport.peer.send(b"data")
    poller.doRead()
    assert (broken.log, well.log) == ([ZeroDivisionError], [b"data"])


def test_one_that_was_ended_by_another_in_the_same_turn_is_not_called(poller, transports):
    pair = transports(2)

    def end_the_other(index):
        def read():
            pair[index].log.append("read")
            pair[1 - index].end()

        return read

    for index, transport in enumerate(pair):
        transport.doRead = end_the_other(index)
        transport.peer.send(b"data")
    poller.doRead()
    assert sorted(len(transport.log) for transport in pair) == [0, 1]


def test_a_turn_is_bounded_and_the_rest_comes_in_the_next(poller, transports):
    many = transports(BATCH + 10)
    for transport in many:
        transport.peer.send(b"x")
    poller.doRead()
    assert sum(len(transport.log) for transport in many) == BATCH
    poller.doRead()
    assert all(len(transport.log) == 1 for transport in many)


def test_it_closes_when_the_last_connection_has_gone(reactor, poller, transports):
    [one] = transports()
    poller.close()
    assert reactor.readers == [poller]
    one.end()
    assert reactor.readers == []
    assert poller.fileno() == -1


def test_the_end_of_the_reactor_ends_every_connection(poller, transports):
    both = transports(2)
    poller.connectionLost(Failure(main.CONNECTION_DONE))
    assert [transport.log for transport in both] == [[ConnectionDone], [ConnectionDone]]
    assert poller.fileno() == -1


def test_everything_else_is_the_reactors(poller):
    assert poller.callLater(1, len) == (1, len)


def test_a_connection_whose_end_fails_does_not_reach_the_reactor(poller, transports):
    class Broken(Transport):
        def doRead(self):
            raise ZeroDivisionError

        def connectionLost(self, reason):
            super().connectionLost(reason)
            raise KeyError

    [broken] = transports(kind=Broken)
    [well] = transports()
    for transport in (broken, well):
        transport.peer.send(b"data")
    poller.doRead()
    assert well.log == [b"data"]


def test_a_number_that_the_kernel_gives_away_again_is_the_new_connections(poller, transports):
    """A socket that was closed behind its transport's back leaves nothing that the next one could stumble over."""
    [old] = transports()
    number = old.fileno()
    old.socket.close()
    [new] = transports()
    assert new.fileno() == number
    new.peer.send(b"data")
    poller.doRead()
    assert (old.log, new.log) == ([], [b"data"])
