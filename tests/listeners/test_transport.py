"""Transports against a kernel that a test plays."""

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import main
from twisted.python.failure import Failure

from netapp.listeners import transport as transports
from netapp.listeners.port import TcpPort, UnixPort
from netapp.listeners.transport import GOODBYE, TcpTransport, UnixTransport
from tests.support.listening import Events, Recorder, Recording
from tests.support.sockets import World

FULL = BlockingIOError(errno.EAGAIN, "full")
BROKEN = BrokenPipeError(errno.EPIPE, "broken")


@pytest.fixture(autouse=True)
def events():
    with Events() as seen:
        yield seen
        assert len(seen.failures) == seen.expected, seen.failures


def opened(*kernel, **options):
    """A world with one connection that does nothing by itself: world, socket, transport, protocol."""
    world = World(Recording(Recorder), **options)
    accepted, connection = world.connect(*kernel)
    return world, accepted, connection.socket_transport, world.factory.made[0]


# Writing

KERNELS = st.lists(st.integers(0, 5) | st.just(OSError(errno.ENOBUFS, "no memory")), max_size=30)
WRITES = st.lists(st.binary(max_size=8) | st.lists(st.binary(max_size=4), max_size=3) | st.none(), max_size=20)


@given(port=st.sampled_from([TcpPort, UnixPort]), kernel=KERNELS, writes=WRITES)
def test_whatever_the_kernel_takes_and_when_the_peer_gets_every_byte_in_order(port, kernel, writes):
    """``None`` lets the reactor turn."""
    world = World(Recording(Recorder), port=port)
    accepted, connection = world.connect(*kernel, address=("192.0.2.7", 1) if port is TcpPort else "")
    transport = connection.socket_transport
    assert isinstance(transport, TcpTransport if port is TcpPort else UnixTransport)
    expected = b""
    for written in writes:
        if written is None:
            world.loop.turn()
        elif isinstance(written, bytes):
            transport.write(written)
            expected += written
        else:
            transport.writeSequence(written)
            expected += b"".join(written)
        assert accepted.sent == expected[: len(accepted.sent)]
        assert transport.unsent == len(expected) - len(accepted.sent)
        assert transport.bytes_out == len(accepted.sent)
        assert (transport.deadline != transports.NEVER) == bool(transport.unsent)
    transport.loseConnection()
    for _ in range(100):
        world.loop.turn()
    assert accepted.sent == expected
    assert accepted.closed
    assert world.ends() == {"local_done": 1}
    world.assert_without_trace()


def test_a_write_that_the_kernel_takes_costs_one_call_and_no_turn():
    world, accepted, transport, _ = opened()
    transport.write(b"hello")
    assert (accepted.sent, accepted.sends) == (b"hello", 1)
    assert transport not in world.loop.writers


def test_what_the_kernel_does_not_take_waits_for_the_reactor():
    world, accepted, transport, _ = opened(3)
    transport.write(b"hello")
    transport.write(b", world")
    assert (accepted.sent, transport.unsent) == (b"hel", 9)
    assert transport in world.loop.writers
    world.loop.turn()
    assert (accepted.sent, transport.unsent) == (b"hello, world", 0)
    assert transport not in world.loop.writers


def test_a_pull_producer_is_asked_by_the_reactor_and_not_from_within_its_own_write():
    class Puller:
        depth = asked = 0

        def resumeProducing(self):
            assert not self.depth
            self.depth += 1
            self.asked += 1
            if self.asked > 100:
                transport.unregisterProducer()
            else:
                transport.write(b"x")
            self.depth -= 1

        def stopProducing(self):
            raise AssertionError("it was not stopped")

    world, accepted, transport, _ = opened()
    transport.registerProducer(Puller(), streaming=False)
    for _ in range(101):
        world.loop.turn()
    assert accepted.sent == b"x" * 100
    transport.write(b"!")
    assert accepted.sent.endswith(b"!"), "at once again"


def test_nothing_is_written_once_the_connection_is_given_up():
    world, accepted, transport, _ = opened()
    transport.abortConnection()
    transport.write(b"too late")
    world.loop.turn()
    transport.write(b"far too late")
    transport.writeSequence([b"even", b"later"])
    assert accepted.sent == b""
    world.assert_without_trace()


def test_a_broken_connection_is_found_by_the_reactor_and_not_in_the_middle_of_a_write():
    world, accepted, transport, protocol = opened(BROKEN)
    transport.write(b"into nothing")
    assert protocol.reason is None
    accepted.feed(b"")  # what a reset socket says once its error has been told
    world.loop.turn()
    assert protocol.reason is not None
    assert world.ends() == {"peer_reset": 1}


@pytest.mark.parametrize("error", [FULL, OSError(errno.ENOBUFS, "no memory")])
def test_a_full_kernel_is_no_error(error):
    world, accepted, transport, _ = opened(error)
    transport.write(b"later")
    world.loop.turn()
    assert accepted.sent == b"later"
    accepted.feed(b"")
    world.loop.turn()
    assert world.ends() == {"peer_done": 1}


# The write deadline


def test_the_deadline_is_the_peers_who_takes_nothing():
    world, _, transport, protocol = opened(2, *[0] * 100, write_timeout=60.0)
    transport.write(b"hello")
    for _ in range(6):
        world.loop.turn()
        world.loop.advance(9.99)
        assert protocol.reason is None
    world.loop.advance(0.1)
    assert world.ends() == {"policy_deadline": 1}
    world.assert_without_trace()


def test_each_byte_that_is_taken_begins_the_deadline_anew():
    world, _, transport, protocol = opened(1, 1, 1, 1, *[0] * 100, write_timeout=60.0)
    transport.write(b"hello")
    for _ in range(3):
        world.loop.advance(59)
        world.loop.turn()
    world.loop.advance(59.9)
    assert protocol.reason is None
    world.loop.advance(0.2)
    assert protocol.reason is not None


def test_a_deadline_that_is_over_does_not_count_for_the_next_write():
    """It began at 0 s, for bytes that are long gone; what waits from 59 s on has until 119 s."""
    world, accepted, transport, protocol = opened(1, write_timeout=60.0)
    transport.write(b"hello")
    world.loop.turn()
    assert transport.unsent == 0
    world.loop.advance(59)
    accepted.kernel.extend([1, *[0] * 100])
    transport.write(b"again")
    world.loop.advance(59.9)
    assert protocol.reason is None
    world.loop.advance(0.2)
    assert protocol.reason is not None


def test_without_a_write_timeout_a_peer_may_take_for_ever():
    world, _, transport, _ = opened(2, *[0] * 10, write_timeout=0.0)
    transport.write(b"hello")
    assert len(world.timers) == 0
    transport.loseConnection()
    for _ in range(12):
        world.loop.advance(100_000)
        world.loop.turn()
    assert world.ends() == {"local_done": 1}


def test_a_goodbye_is_waited_for_once_everything_is_sent():
    world, accepted, transport, protocol = opened(2, *[0] * 20, write_timeout=60.0)
    transport.write(b"hello")
    transport.await_goodbye()
    for _ in range(3):
        world.loop.advance(GOODBYE * 1.5)
        world.loop.turn()
        assert protocol.reason is None, "something is unsent"
    accepted.kernel.clear()
    world.loop.turn()
    assert accepted.sent == b"hello"
    world.loop.advance(GOODBYE - 0.1)
    assert not transport.disconnecting
    world.loop.advance(0.2)
    world.loop.turn()
    assert world.ends() == {"local_done": 1}
    world.assert_without_trace()


def test_a_goodbye_waits_for_a_producer():
    class Slow:
        def pauseProducing(self):
            raise AssertionError("nothing is full")

        resumeProducing = stopProducing = pauseProducing

    world, _, transport, protocol = opened()
    transport.registerProducer(Slow(), streaming=True)
    transport.await_goodbye()
    for _ in range(5):
        world.loop.advance(GOODBYE + 1)
        world.loop.turn()
    assert protocol.reason is None
    transport.unregisterProducer()
    world.loop.advance(GOODBYE + 1)
    world.loop.turn()
    assert world.ends() == {"local_done": 1}


def test_a_goodbye_to_a_connection_that_is_gone_waits_for_nothing():
    world, accepted, transport, _ = opened()
    accepted.feed(b"")
    world.loop.turn()
    transport.await_goodbye()
    world.assert_without_trace()


# Reading


def test_bytes_are_counted_and_errors_kept():
    world, accepted, transport, protocol = opened()
    accepted.feed(b"hello", b"world", ConnectionResetError(errno.ECONNRESET, "reset"))
    for _ in range(3):
        world.loop.turn()
    assert protocol.received == b"helloworld"
    assert transport.bytes_in == 10
    assert world.ends() == {"peer_reset": 1}
    assert isinstance(transport.error, ConnectionResetError)


def test_a_wake_up_for_nothing_is_nothing():
    world, _, transport, protocol = opened()
    assert transport.doRead() is None
    assert (transport.bytes_in, protocol.received) == (0, b"")
    assert world.ends() == {}


@pytest.mark.parametrize(
    ("number", "end"), [(errno.ETIMEDOUT, "peer_timed_out"), (errno.EHOSTUNREACH, "peer_timed_out"), (0, "peer_reset")]
)
def test_the_kernel_is_asked_what_broke_a_connection_that_is_not_read(number, end):
    world, accepted, transport, _ = opened()
    transport.pauseProducing()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_ERROR, number)
    transport.connectionLost(Failure(main.CONNECTION_LOST))
    assert world.ends() == {end: 1}


def test_what_is_held_is_delivered_once_before_anything_else_and_only_while_reading():
    world, accepted, transport, protocol = opened()
    assert not transport.hold(lambda: protocol.dataReceived(b"never"))
    transport.pauseProducing()
    assert transport.hold(lambda: protocol.dataReceived(b"first "))
    accepted.feed(b"second")
    transport.resumeProducing()
    transport.resumeProducing()
    transport.pauseProducing()
    world.loop.turn()
    assert protocol.received == b""
    transport.resumeProducing()
    assert protocol.received == b"", "not before the call has returned"
    world.loop.turn()
    world.loop.turn()
    assert protocol.received == b"first second"


def test_what_is_held_goes_with_the_connection():
    world, _, transport, protocol = opened()
    transport.pauseProducing()
    transport.hold(lambda: protocol.dataReceived(b"never"))
    transport.resumeProducing()
    transport.connectionLost(Failure(main.CONNECTION_DONE))
    world.loop.turn()
    assert protocol.received == b""
    assert not transport.hold(lambda: protocol.dataReceived(b"never"))


# Ending


@pytest.mark.parametrize("streaming", [True, False])
def test_a_producer_that_raises_when_it_is_stopped_costs_only_its_connection(events, streaming):
    """And not the descriptor: Twisted stops the producer before it closes the socket."""

    class Broken:
        def resumeProducing(self):
            pass

        def stopProducing(self):
            raise RuntimeError("a defect")

    events.expected = 1
    world, accepted, transport, protocol = opened()
    transport.registerProducer(Broken(), streaming)
    accepted.feed(b"")
    world.loop.turn()
    assert accepted.closed
    assert protocol.reason is not None
    world.assert_without_trace()


def test_losing_a_connection_twice_is_losing_it_once():
    world, _, transport, protocol = opened()
    transport.abortConnection()
    transport.connectionLost(Failure(main.CONNECTION_LOST))
    assert protocol.reason is not None
    world.loop.turn()
    assert sum(world.ends().values()) == 1
    world.assert_without_trace()


def test_aborting_a_connection_that_has_ended_does_not_change_how():
    class Aborting(Recorder):
        def connectionLost(self, reason):
            self.transport.abortConnection()

    world = World(Recording(Aborting))
    accepted, _ = world.connect()
    accepted.feed(b"")
    world.loop.turn()
    assert world.ends() == {"peer_done": 1}
