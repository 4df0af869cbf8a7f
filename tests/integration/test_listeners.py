"""Who gets in, how connections end, and that none of them leaves a trace. On real sockets."""

import socket
import struct
import subprocess
import sys

import pytest
import pytest_twisted
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, ProtocolViolation
from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import Detection
from tests.support.listening import Echoing, Recorder, Recording, pause, serving, until

pytestmark = pytest.mark.filterwarnings("error")


@pytest_twisted.async_yield_fixture
async def serve():
    async with serving() as make:
        yield make


def admission(**limits):
    return AdmissionPolicy(**limits)


async def is_refused(peer):
    """Whether the server closes without having answered."""
    await peer.send(b"hello")
    return await peer.rest() == b""


# Admission


@pytest_twisted.ensureDeferred
async def test_the_total_holds_and_a_place_is_free_again_when_somebody_leaves(serve):
    here = serve(Recording(), admission=admission(max_connections=2))
    first = await here.converse()
    await here.converse()
    assert await is_refused(here.connect())
    assert here.total("netapp_connections_refused_total", rule="max_connections") == 1
    first.close()
    await here.ended("peer_done")
    await here.converse()


@pytest_twisted.ensureDeferred
async def test_a_client_has_its_share_and_others_have_theirs(serve):
    here = serve(Recording(), admission=admission(max_per_client=1))
    await here.converse(source="127.0.0.1")
    assert await is_refused(here.connect(source="127.0.0.1"))
    await here.converse(source="127.0.0.2")
    assert here.total("netapp_connections_refused_total", rule="max_per_client") == 1
    assert here.listener.admission.clients == 2


@pytest_twisted.ensureDeferred
async def test_ipv6_is_served_and_has_its_share(serve):
    here = serve(Recording(), endpoint=r"tcp:0:interface=\:\:1", admission=admission(max_per_client=1))
    await here.converse()
    assert here.factory.addresses[0].host == "::1"
    assert await is_refused(here.connect())
    assert here.listener.authority().startswith("[::1]:")


@pytest_twisted.ensureDeferred
async def test_an_ipv4_client_of_a_dual_stack_port_is_the_same_to_every_rule(serve):
    here = serve(
        Recording(),
        endpoint=r"tcp:0:interface=\:\:",
        admission=admission(max_per_client=1, deny=("127.0.0.2/32",)),
    )
    port = here.listener.port.getHost().port
    here.listener.port.getHost = lambda: type("Host", (), {"host": "127.0.0.1", "port": port})
    await here.converse(source="127.0.0.1")
    assert here.factory.addresses[0].host == "::ffff:127.0.0.1"
    assert await is_refused(here.connect(source="127.0.0.1"))
    assert await is_refused(here.connect(source="127.0.0.2"))
    assert here.total("netapp_connections_refused_total", rule="max_per_client") == 1
    assert here.total("netapp_connections_refused_total", rule="deny") == 1


@pytest_twisted.ensureDeferred
async def test_the_rate_holds(serve):
    here = serve(Recording(), admission=admission(accept_rate=0.001, accept_burst=2))
    await here.converse()
    await here.converse()
    assert await is_refused(here.connect())
    assert here.total("netapp_connections_refused_total", rule="accept_rate") == 1


@pytest_twisted.ensureDeferred
async def test_one_clients_flood_does_not_use_up_everybodys_rate(serve):
    limits = admission(accept_rate=0.001, accept_burst=3, max_per_client=1)
    here = serve(Recording(), admission=limits)
    await here.converse(source="127.0.0.1")
    for _ in range(5):
        assert await is_refused(here.connect(source="127.0.0.1"))
    await here.converse(source="127.0.0.2")
    await here.converse(source="127.0.0.3")


@pytest.mark.parametrize(
    ("lists", "rule"), [({"deny": ("127.0.0.2/32",)}, "deny"), ({"allow": ("127.0.0.1/32",)}, "allow")]
)
@pytest_twisted.ensureDeferred
async def test_access_lists(serve, lists, rule):
    here = serve(Recording(), admission=admission(**lists))
    assert await is_refused(here.connect(source="127.0.0.2"))
    assert here.total("netapp_connections_refused_total", rule=rule) == 1
    await here.converse(source="127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_a_dry_run_refuses_nobody_and_counts_everybody(serve):
    limits = admission(max_connections=1, max_per_client=1, deny=("127.0.0.2/32",), dry_run=True)
    here = serve(Recording(), admission=limits)
    await here.converse()
    await here.converse()
    await here.converse(source="127.0.0.2")
    assert here.total("netapp_connections_refused_total") == 0
    would = {
        rule: here.total("netapp_connections_would_refuse_total", rule=rule) for rule in ("deny", "max_per_client")
    }
    assert would == {"deny": 1, "max_per_client": 1}
    assert here.total("netapp_connections_would_refuse_total", rule="max_connections") == 2


@pytest.mark.parametrize(("option", "expected"), [("", 7), (":backlog=9", 9)])
@pytest_twisted.ensureDeferred
async def test_the_backlog_is_the_endpoints_or_else_the_policys(serve, option, expected):
    here = serve(Recording(), endpoint=f"tcp:0:interface=127.0.0.1{option}", admission=admission(backlog=7))
    info = here.listener.port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("I", info, 28) == (expected,)  # tcpi_sacked, which is the backlog while listening
    await here.converse()


STARVED = """
import os, resource
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from tests.support.listening import Events, Recording, Served

with Events() as events:
    here = Served(events, Recording())
    soft = max(int(name) for name in os.listdir("/proc/self/fd")) + 6
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    def tell():
        print(len(here.listener.connections), int(here.total("netapp_accept_pauses_total", errno="EMFILE")), flush=True)
    print(here.address[1], flush=True)
    LoopingCall(tell).start(0.02)
    reactor.callLater(60, reactor.stop)
    reactor.run()
"""


def test_a_process_without_descriptors_waits_for_some_and_then_serves_whoever_waited():
    """Real exhaustion, in a process of its own. Twisted's own port would accept and close whoever comes."""
    with subprocess.Popen([sys.executable, "-c", STARVED], stdout=subprocess.PIPE, text=True) as child:
        try:
            port = int(child.stdout.readline())
            peers = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
            for line in child.stdout:
                held, pauses = map(int, line.split())
                if pauses >= 3:
                    break
            assert 0 < held < 20
            for peer in peers[:held]:
                peer.close()
            for peer in peers[held:]:
                peer.sendall(b"hello")
            served = 0
            for peer in peers[held:]:
                served += peer.recv(5) == b"hello"
                peer.close()
            assert served == 20 - held
        finally:
            child.kill()


# Ends


@pytest_twisted.ensureDeferred
async def test_after_the_hand_over_nothing_stands_between_the_socket_and_the_protocol(serve):
    here = serve(Recording())
    await here.converse()
    [connection] = here.listener.connections.values()
    [protocol] = here.factory.made
    transport = connection.socket_transport
    assert transport.protocol.dataReceived == protocol.dataReceived
    assert transport.protocol.dataReceived.__self__ is protocol
    assert protocol.transport is transport


@pytest_twisted.ensureDeferred
async def test_one_event_tells_all_of_a_connection(serve):
    here = serve(Recording())
    peer = await here.converse()
    name = peer.name
    peer.close()
    await here.ended("peer_done")
    [event] = serve.events.of("here")
    assert event["peer"] == f"127.0.0.1:{name[1]}"
    assert (event["bytes_in"], event["bytes_out"]) == (5, 5)
    assert event["protocol"] == "Recording"
    assert event["id"].startswith("here-")
    assert event["log_level"].name == "info"
    assert 0 < event["seconds"] < 10


@pytest_twisted.ensureDeferred
async def test_a_peer_that_closes_is_done_and_one_that_resets_has_reset(serve):
    here = serve(Recording())
    (await here.converse()).close()
    await here.ended("peer_done")
    (await here.converse()).reset()
    await here.ended("peer_done", "peer_reset")


@pytest_twisted.ensureDeferred
async def test_a_protocol_that_closes_is_done_locally(serve):
    here = serve(Recording())
    peer = await here.converse()
    here.factory.made[0].transport.loseConnection()
    assert await peer.rest() == b""
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_a_reset_that_a_write_meets_first_is_a_reset(serve):
    """The kernel tells an error once: to the write that met it, and to the read after it that all is well."""
    here = serve(Recording())
    peer = await here.converse()
    [protocol] = here.factory.made
    peer.reset()
    protocol.transport.write(b"is anybody there?")
    await here.ended("peer_reset")


@pytest_twisted.ensureDeferred
async def test_a_reset_is_noticed_while_bytes_wait_and_nothing_is_read(serve):
    here = serve(Recording(Recorder))
    peer = here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    protocol.transport.pauseProducing()
    protocol.transport.write(bytes(8_000_000))
    peer.reset()
    await here.ended("peer_reset")


@pytest_twisted.ensureDeferred
async def test_what_a_protocol_declares_is_how_it_ended(serve):
    class Strict(Recorder):
        ending = None

        def dataReceived(self, data):
            self.ending = ProtocolViolation("not what I speak")
            self.transport.loseConnection()

    here = serve(Recording(Strict))
    peer = here.connect()
    await peer.send(b"?")
    await here.ended("protocol_violation")


@pytest_twisted.ensureDeferred
async def test_attributes_of_other_meanings_do_not_matter(serve):
    """``ending`` and ``state`` are common words; and whoever asks for them must not be broken by an answer."""

    class Odd(Recorder):
        ending = "\r\n"

        @property
        def state(self):
            raise RuntimeError("nobody knows")

    class Odder(Recorder):
        @property
        def ending(self):
            raise RuntimeError("nobody knows")

    serve.events.expected = 2
    odd, odder = serve(Recording(Odd), name="odd"), serve(Recording(Odder), name="odder")
    for here in (odd, odder):
        peer = here.connect()
        await here.factory.one()
        [connection] = here.listener.connections.values()
        assert connection.as_dict(0.0)["state"] == "open"
        peer.close()
        await here.ended("peer_done")


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(serve):
    here = serve(Recording(), idle_timeout=0.4)
    idle, busy = await here.converse(), await here.converse()
    while not idle.is_closed:
        await busy.send(b"x")
        assert await busy.read(1) == b"x"
        await pause(0.01)
    await here.ended("policy_deadline")
    [event] = serve.events.of("here")
    assert event["seconds"] >= 0.4
    await busy.send(b"still here")
    assert await busy.read(10) == b"still here"


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_that_cannot_be_closed_in_order_is_cut(serve, monkeypatch):
    monkeypatch.setattr("netapp.listeners.connection.LAST_WORD", 0.1)
    here = serve(Recording(Recorder), idle_timeout=0.1)
    here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    protocol.transport.write(bytes(8_000_000))
    await here.ended("policy_deadline")


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_read_is_cut_when_its_time_is_over(serve):
    here = serve(Recording(Recorder), write_timeout=0.2)
    here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    protocol.transport.write(bytes(8_000_000))
    await here.ended("policy_deadline")
    assert "does not read" in serve.events.of("here")[0]["why"]


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_that_reads_is_not_cut(serve):
    """Each read is progress, however long it takes to the end."""
    here = serve(Recording(Recorder), write_timeout=0.8)
    peer = here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    transport = protocol.transport
    transport.write(bytes(6_000_000))
    started = here.timers.now()
    left = 6_000_000
    while here.timers.now() - started < 1.2 and left:
        left -= len(await peer.read(min(left, 50_000)))
        await pause(0.02)
    assert here.ends == []
    assert len(await peer.read(left)) == left
    transport.loseConnection()
    await here.ended("local_done")


@pytest_twisted.ensureDeferred
async def test_a_write_into_a_lost_connection_leaves_no_deadline(serve):
    """Protocols do say goodbye in connectionLost."""

    class Polite(Recorder):
        def connectionLost(self, reason):
            self.transport.write(b"goodbye")

    here = serve(Recording(Polite))
    peer = here.connect(receive_buffer=4096)
    protocol = await here.factory.one()
    protocol.transport.write(bytes(8_000_000))
    peer.reset()
    await here.ended("peer_reset")
    protocol.transport.write(b"and again")
    assert len(here.timers) == 0


@pytest_twisted.ensureDeferred
async def test_the_peer_closes_its_side_and_a_protocol_that_wants_to_know_is_told(serve):
    @implementer(IHalfCloseableProtocol)
    class Halves(Recorder):
        def readConnectionLost(self):
            self.transport.write(b"all heard: " + self.received)
            self.transport.loseWriteConnection()

        def writeConnectionLost(self):
            self.transport.loseConnection()

    here = serve(Recording(Halves))
    peer = here.connect()
    await peer.send(b"everything")
    peer.finish()
    assert await peer.rest() == b"all heard: everything"
    await here.ended("peer_done")


@pytest_twisted.ensureDeferred
async def test_the_peer_closes_its_side_and_that_is_the_end_to_a_protocol_that_does_not_care(serve):
    here = serve(Recording())
    peer = await here.converse()
    peer.finish()
    assert await peer.rest() == b""
    await here.ended("peer_done")


@pytest.mark.parametrize("where", ["readConnectionLost", "writeConnectionLost"])
@pytest_twisted.ensureDeferred
async def test_a_protocol_that_raises_at_a_half_close_costs_only_itself(serve, where):
    @implementer(IHalfCloseableProtocol)
    class Halves(Echoing):
        def readConnectionLost(self):
            self.transport.loseWriteConnection()

        def writeConnectionLost(self):
            pass

    def defect(self):
        raise RuntimeError("a defect")

    setattr(Halves, where, defect)
    serve.events.expected = 2  # the neighbour closes, too, in the end
    here = serve(Recording(Halves))
    peer, neighbour = await here.converse(), await here.converse()
    peer.finish()
    await here.ended("internal")
    await neighbour.send(b"and I?")
    assert await neighbour.read(6) == b"and I?"


class Raising(Recording):
    """Raises at ``where`` for every connection that says so."""

    def __init__(self, where):
        class Raises(Echoing):
            def connectionMade(self):
                super().connectionMade()
                if factory.next == "connectionMade":
                    raise RuntimeError("a defect")

            def dataReceived(self, data):
                if data == b"dataReceived":
                    raise RuntimeError("a defect")
                super().dataReceived(data)

            def connectionLost(self, reason):
                super().connectionLost(reason)
                if b"connectionLost" in self.received:
                    raise RuntimeError("a defect")

        factory = self
        super().__init__(Raises)
        self.next = where

    def buildProtocol(self, addr):
        if self.next == "buildProtocol":
            raise RuntimeError("a defect")
        return super().buildProtocol(addr)


@pytest.mark.parametrize("where", ["buildProtocol", "connectionMade", "dataReceived", "connectionLost"])
@pytest_twisted.ensureDeferred
async def test_a_factory_that_raises_costs_only_that_connection(serve, where):
    serve.events.expected = 1
    here = serve(Raising(""))
    neighbour = await here.converse()
    here.factory.next = where
    peer = here.connect()
    await peer.send(where.encode())
    if where == "connectionLost":
        assert await peer.read(len(where)) == where.encode()
        peer.finish()
    await peer.rest()
    await here.ended("internal")
    assert "a defect" in str(serve.events.failures[0])
    here.factory.next = ""
    await neighbour.send(b"and I?")
    assert await neighbour.read(6) == b"and I?"
    await here.converse()


@pytest_twisted.ensureDeferred
async def test_a_factory_that_declines_closes_the_connection(serve):
    class Choosy(Factory):
        noisy = False

        def buildProtocol(self, addr):
            return None

    here = serve(Choosy())
    assert await is_refused(here.connect())
    await here.ended("policy_limit")


@pytest_twisted.ensureDeferred
async def test_a_detector_that_raises_costs_only_that_connection(serve):
    """At once, on no bytes at all: the socket is registered with the reactor by then, which must let go of it."""

    def first_byte(data):
        return data[0]

    serve.events.expected = 3
    detection = Detection([("other", first_byte)], "echo")
    factories = {"other": Recording(), "echo": Recording()}
    here = serve(detection=detection, factories=factories)
    other = serve(Recording(), name="other")
    for _ in range(3):
        await here.connect().rest()
    await here.ended("internal", "internal", "internal")
    for _ in range(3):
        await other.converse()


@pytest_twisted.ensureDeferred
async def test_a_protocol_put_in_anothers_place_keeps_the_books_straight(serve):
    """What twisted.web's users do to upgrade to autobahn: ``transport.protocol = another``."""

    class Upgrading(Recorder):
        def dataReceived(self, data):
            successor = self.transport.protocol = Successor()
            successor.factory = self.factory
            successor.makeConnection(self.transport)
            successor.dataReceived(data)

    class Successor(Echoing):
        ending = DeadlineExceeded("mine")

    here = serve(Recording(Upgrading))
    peer = await here.converse()
    await peer.send(b"more")
    assert await peer.read(4) == b"more"
    peer.close()
    await here.ended("policy_deadline")
    assert here.factory.made[1].reason is not None


@pytest_twisted.ensureDeferred
async def test_a_protocol_may_rebind_its_own_data_received(serve):
    """The poor man's state machine, and Twisted's own in places."""

    class Stateful(Recorder):
        def dataReceived(self, data):
            self.transport.write(b"first ")
            self.dataReceived = self.second

        def second(self, data):
            self.transport.write(b"second")

    here = serve(Recording(Stateful))
    peer = here.connect()
    await peer.send(b"1")
    assert await peer.read(6) == b"first "
    await peer.send(b"2")
    assert await peer.read(6) == b"second"


# The end of serving


@pytest_twisted.ensureDeferred
async def test_whom_the_kernel_has_queued_is_served_though_the_port_closes(serve):
    here = serve(Recording())
    peers = [here.connect() for _ in range(100)]
    for peer in peers:
        peer.socket.send(b"hello")
    assert here.listener.connections == {}
    stopped = here.listener.stop_listening()
    await stopped
    for peer in peers:
        assert await peer.read(5) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(peers[0].socket.getpeername(), timeout=5)


@pytest_twisted.ensureDeferred
async def test_a_drain_tells_protocols_and_waits_for_them(serve):
    class Drained(Echoing):
        told = ()

        def wind_down(self):
            self.told += ("wind_down",)

        def drain(self):
            self.told += ("drain",)
            self.transport.loseConnection()

    here = serve(Recording(Drained))
    await here.converse()
    here.listener.wind_down()
    late = await here.converse()
    empty = here.listener.when_empty()
    assert not empty.called
    here.listener.drain()
    assert await late.rest() == b""
    await empty
    assert [made.told for made in here.factory.made] == [("wind_down", "drain")] * 2
    assert here.listener.when_empty().called


@pytest_twisted.ensureDeferred
async def test_who_does_not_know_of_draining_goes_on_until_it_is_cut(serve):
    here = serve(Recording())
    peer = await here.converse()
    here.listener.drain()
    await peer.send(b"still")
    assert await peer.read(5) == b"still"
    for connection in list(here.listener.connections.values()):
        connection.cut()
    assert await peer.rest() == b""
    await here.ended("policy_drain")


@pytest_twisted.ensureDeferred
async def test_waiting_for_emptiness_may_be_given_up(serve):
    here = serve(Recording())
    peer = await here.converse()
    given_up = here.listener.when_empty()
    failures = []
    given_up.addErrback(lambda failure: failures.append(failure.type.__name__))
    given_up.cancel()
    assert failures == ["CancelledError"]
    peer.close()
    await here.ended("peer_done")


@pytest_twisted.ensureDeferred
async def test_a_stopped_listener_has_no_connection_left_even_of_those_who_came_meanwhile(serve):
    here = serve(Recording())
    await here.converse()
    waiting = [here.connect() for _ in range(10)]
    await here.listener.stopService()
    assert here.listener.connections == {}
    for peer in waiting:
        assert await peer.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_listener_may_start_again(serve):
    here = serve(Recording())
    await here.converse()
    await here.listener.stopService()
    here.listener.startService()
    await here.converse()
    assert await until(lambda: len(here.listener.connections) == 1)
