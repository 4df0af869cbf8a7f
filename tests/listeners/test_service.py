"""A listener as a service: what it binds, whom it admits under which name, how it ends."""

import errno
import socket
from unittest import mock

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from netapp.errors import StartupError
from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import DETECTORS, Detection
from netapp.listeners.proxyproto import ProxyPolicy
from netapp.listeners.service import Listener
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers
from tests.support.listening import Events, Recorder, Recording
from tests.support.sockets import World

LOCAL = "tcp:0:interface=127.0.0.1"


@pytest.fixture(autouse=True)
def events():
    with Events() as seen:
        yield seen
        assert len(seen.failures) == seen.expected, seen.failures


class Hall:
    """A listener with real sockets on a reactor that never runs by itself."""

    def __init__(self, endpoint=LOCAL, factory=None, **options):
        self.clock = MemoryReactorClock()
        timers = Timers(self.clock, now=self.clock.seconds)
        self.factory = factory or Recording(Recorder)
        self.listener = Listener(
            "here", endpoint, self.factory, reactor=self.clock, timers=timers, registry=Registry(), **options
        )

    def stop(self):
        stopped = self.listener.stopService()
        for _ in range(5):
            self.clock.advance(1)
        assert stopped.called
        assert not self.clock.readers
        return stopped


@pytest.fixture
def hall():
    made = []

    def make(*args, **options):
        made.append(Hall(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


# Binding


def test_it_listens_from_before_privileges_are_shed(hall):
    here = hall()
    assert here.listener.authority() == ""
    here.listener.privilegedStartService()
    authority = here.listener.authority()
    here.listener.startService()
    assert here.listener.authority() == authority
    host, _, port = authority.rpartition(":")
    assert host == "127.0.0.1"
    socket.create_connection((host, int(port))).close()


def test_an_ipv6_authority_is_in_brackets_and_a_file_has_none(hall, tmp_path):
    ipv6 = hall(r"tcp:0:interface=\:\:1")
    ipv6.listener.startService()
    assert ipv6.listener.authority().startswith("[::1]:")
    unix = hall(f"unix:{tmp_path}/socket")
    unix.listener.startService()
    assert unix.listener.authority() == ""


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("tcp:{port}:interface=127.0.0.1", "Address already in use"),
        ("tcp:0:interface=203.0.113.1", "Cannot assign requested address"),
        ("tcp:0:surface=127.0.0.1", "unexpected keyword argument 'surface'"),
        ("systemd:domain=INET:index=7", "list index out of range"),
        ("carrier-pigeon:1", "carrier-pigeon"),
        ("", ""),
    ],
)
def test_what_cannot_be_bound_says_why(hall, endpoint, words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = hall(endpoint.format(port=taken.getsockname()[1]))
        with pytest.raises(StartupError, match="listener here: cannot listen on ") as caught:
            here.listener.startService()
    assert words in str(caught.value)
    assert here.listener.port is None


def test_an_endpoint_that_takes_its_time_is_refused(hall):
    """Nobody could be told that it has failed."""
    here = hall()
    cancelled = []
    endpoint = mock.Mock(listen=lambda _: Deferred(cancelled.append))
    with (
        mock.patch("netapp.listeners.service.serverFromString", return_value=endpoint),
        pytest.raises(StartupError, match="does not listen at once"),
    ):
        here.listener.startService()
    assert len(cancelled) == 1


@pytest.mark.parametrize(("endpoint", "expected"), [(LOCAL, 7), (LOCAL + ":backlog=9", 9)])
def test_the_endpoint_may_have_a_backlog_of_its_own(hall, endpoint, expected):
    here = hall(endpoint, admission=AdmissionPolicy(backlog=7))
    here.listener.startService()
    assert here.listener.port.backlog == expected


def test_factories_are_started_and_stopped_with_the_port(hall):
    class Counting(Recording):
        running = 0

        def startFactory(self):
            self.running += 1

        def stopFactory(self):
            self.running -= 1

    alone = Counting()
    one = hall(factory=alone)
    several = {"echo": Counting(), "http1": Counting()}
    detection = Detection([("http1", DETECTORS["http1"])], "echo")
    other = hall()
    other.listener = Listener(
        "there",
        LOCAL,
        reactor=other.clock,
        timers=other.listener.timers,
        registry=Registry(),
        detection=detection,
        factories=several,
    )
    for started in (one, other):
        started.listener.startService()
    assert [factory.running for factory in (alone, *several.values())] == [1, 1, 1]
    for started in (one, other):
        started.stop()
    assert [factory.running for factory in (alone, *several.values())] == [0, 0, 0]


def test_the_protocols_kind_is_the_factorys_name_where_none_is_given():
    assert World(Recording()).listener.kind == "Recording"
    assert World(Recording(), kind="echo").listener.kind == "echo"


@pytest.mark.parametrize(
    ("names", "fallback", "words"),
    [
        (("tls",), None, "to TLS, and to nothing within it"),
        (("tls",), "tls", "to TLS, and to nothing within it"),
        (("http1",), "echo", "leads to http1, for which there is no factory"),
        ((), "nobody", "leads to nobody, for which there is no factory"),
    ],
)
def test_a_detection_that_leads_nowhere_is_refused(names, fallback, words):
    detection = Detection([(name, DETECTORS[name]) for name in names], fallback)
    with pytest.raises(ValueError, match=words):
        World(detection=detection, factories={"echo": Recording()})


# Admission


def test_each_connection_has_an_id_of_its_own_refused_or_not():
    world = World(Recording(Recorder), admission=AdmissionPolicy(max_connections=2))
    ids = [connection.peer.id for _ in range(3) if (connection := world.connect()[1])]
    accepted, _ = world.connect()
    assert accepted.closed
    next(iter(world.listener.connections.values())).cut()
    world.loop.turn()
    ids.append(world.connect()[1].peer.id)
    assert ids == ["here-1", "here-2", "here-5"]


@pytest.mark.parametrize("refused_by", ["max_connections", "accept_rate"])
def test_a_refusal_by_a_rule_for_all_gives_the_clients_share_back(refused_by):
    limits = {"max_connections": 1} if refused_by == "max_connections" else {"accept_rate": 0.1, "accept_burst": 1}
    world = World(Recording(Recorder), admission=AdmissionPolicy(**limits))
    _, first = world.connect(address=("192.0.2.1", 1))
    for _ in range(3):
        assert world.connect(address=("192.0.2.2", 1))[1] is None
    assert (world.listener.admission.open, world.listener.admission.clients) == (1, 1)
    assert world.value("netapp_connections_refused_total", "here", refused_by) == 3
    first.cut()
    world.loop.turn()
    world.assert_without_trace()


def test_a_client_over_its_share_takes_neither_a_place_nor_a_turn():
    limits = AdmissionPolicy(max_per_client=1, max_connections=2, accept_rate=0.1, accept_burst=2)
    world = World(Recording(Recorder), admission=limits)
    assert world.connect(address=("192.0.2.1", 1))[1] is not None
    for _ in range(10):
        assert world.connect(address=("192.0.2.1", 2))[1] is None
    assert world.connect(address=("192.0.2.2", 1))[1] is not None
    assert world.value("netapp_connections_refused_total", "here", "max_per_client") == 10


def test_every_way_of_ending_gives_everything_back_once():
    limits = AdmissionPolicy(max_per_client=3)
    world = World(Recording(Recorder), admission=limits)
    for _ in range(3):
        for way in ("done", "reset", "cut", "refuse"):
            accepted, connection = world.connect()
            if way == "done":
                accepted.feed(b"")
            elif way == "reset":
                accepted.feed(ConnectionResetError(errno.ECONNRESET, "reset"))
            elif way == "cut":
                connection.cut()
                connection.cut()
            else:
                connection.refuse("max_per_client")
            world.loop.turn()
            world.assert_without_trace()
    assert world.ends() == {"peer_done": 3, "peer_reset": 3, "policy_drain": 3, "policy_limit": 3}


def test_a_trusted_proxy_is_held_to_the_total_and_to_no_rule_for_clients():
    proxy = ProxyPolicy(trusted=("192.0.2.0/24",))
    limits = AdmissionPolicy(max_per_client=1, max_connections=3, deny=("192.0.2.0/24",))
    world = World(Recording(Recorder), proxy=proxy, admission=limits)
    opened = [world.connect()[1] for _ in range(4)]
    assert [bool(connection) for connection in opened] == [True, True, True, False]
    assert world.value("netapp_connections_refused_total", "here", "max_connections") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_a_proxy_is_trusted_however_its_address_is_written(host):
    world = World(Recording(Recorder), proxy=ProxyPolicy(trusted=("127.0.0.1/32",)))
    kind = IPv6Address if ":" in host else IPv4Address
    assert world.listener.admit(kind("TCP", host, 1)).peer.proxy == host
    assert world.listener.admit(kind("TCP", host.replace("127", "128"), 1)).peer.proxy == ""


def test_a_unix_sockets_peer_is_trusted_where_there_is_a_proxy_and_needs_no_list():
    plain = World(Recording(Recorder), admission=AdmissionPolicy(allow=("192.0.2.0/24",)))
    assert plain.listener.admit(UNIXAddress(None)).peer.proxy == ""
    proxied = World(Recording(Recorder), proxy=ProxyPolicy(trusted=("192.0.2.0/24",)))
    assert proxied.listener.admit(UNIXAddress(None)).peer.proxy == "unix"


def test_a_dry_run_counts_every_rule_that_a_connection_would_break():
    limits = AdmissionPolicy(max_connections=1, max_per_client=1, deny=("192.0.2.0/24",), dry_run=True)
    world = World(Recording(Recorder), admission=limits)
    for _ in range(2):
        assert world.connect()[1] is not None
    for rule, count in (("deny", 2), ("max_per_client", 1), ("max_connections", 1)):
        assert world.value("netapp_connections_would_refuse_total", "here", rule) == count
    for connection in list(world.listener.connections.values()):
        connection.cut()
    world.loop.turn()
    world.assert_without_trace()


def test_a_refusal_is_logged_with_its_rule(events):
    world = World(Recording(Recorder), admission=AdmissionPolicy(deny=("192.0.2.0/24",)))
    world.connect()
    [event] = [event for event in events.all if event.get("rule")]
    assert (event["listener"], event["peer"], event["rule"]) == ("here", "192.0.2.7", "deny")


# Ending


def test_who_waits_for_emptiness_is_told_each_time_and_may_give_up():
    world = World(Recording(Recorder))
    assert world.listener.when_empty().called
    _, connection = world.connect()
    waiting, given_up = world.listener.when_empty(), world.listener.when_empty()
    given_up.addErrback(lambda failure: failure.type.__name__)
    given_up.cancel()
    assert given_up.result == "CancelledError"
    assert not waiting.called
    connection.cut()
    world.loop.turn()
    assert waiting.called


def test_whoever_is_told_of_emptiness_may_give_up_another():
    world = World(Recording(Recorder))
    _, connection = world.connect()
    first, second = world.listener.when_empty(), world.listener.when_empty()
    first.addCallback(lambda _: second.cancel())
    second.addErrback(lambda _: None)
    connection.cut()
    world.loop.turn()
    assert first.called
    assert second.called
    assert first.result is None


def test_a_listener_that_was_never_started_stops(hall):
    here = hall()
    assert here.listener.stop_listening() is None


def test_a_listener_that_starts_again_begins_anew(hall):
    here = hall()
    here.listener.startService()
    here.listener.wind_down()
    here.listener.drain()
    here.stop()
    here.listener.startService()
    assert (here.listener.winding_down, here.listener.draining) == (False, False)


def test_another_reactors_ports_are_just_stopped():
    """One that has no descriptors to poll listens in its own way."""

    class Stopping:
        stopped = 0

        def stopListening(self):
            self.stopped += 1

    world = World(Factory())
    port = world.listener.port = Stopping()
    assert world.listener.stop_listening() is None
    assert port.stopped == 1
    assert world.listener.stop_listening() is None
    assert port.stopped == 1
