"""The end of serving: what is announced, what is waited for, what is cut. On a clock, with listeners that are fakes of
nothing but their counting."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from netapp.app.drain import Drain, Phase
from netapp.config.schema import ServerConfig
from netapp.telemetry.health import Readiness
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers


class Held:
    """A connection that is open until it is told otherwise."""

    def __init__(self, listener, name):
        self.listener = listener
        self.name = name
        listener.connections[name] = self

    def as_dict(self, now):
        return {"id": self.name, "peer": "192.0.2.1:1", "protocol": "http", "state": "active", "age": now}

    def cut(self):
        self.listener.log.append(f"cut {self.name}")
        self.end()

    def end(self):
        self.listener.connections.pop(self.name, None)
        if not self.listener.connections and self.listener.emptied:
            emptied, self.listener.emptied = self.listener.emptied, None
            emptied.callback(None)


class Doors:
    """A listener, as far as a drain is concerned."""

    def __init__(self):
        self.connections = {}
        self.log = []
        self.emptied = None

    def wind_down(self):
        self.log.append("wind down")

    def stop_listening(self):
        self.log.append("stop listening")

    def drain(self):
        self.log.append("drain")

    def when_empty(self):
        self.emptied = Deferred(lambda _: setattr(self, "emptied", None))
        if not self.connections:
            self.emptied.callback(None)
        return self.emptied


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def doors():
    return Doors()


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def readiness():
    return Readiness()


@pytest.fixture
def drain(clock, doors, registry, readiness):
    timers = Timers(clock, now=clock.seconds)
    config = ServerConfig(drain_delay=5.0, drain_timeout=30.0)
    return Drain([doors], readiness, config, clock=clock, timers=timers, registry=registry)


def fired(deferred):
    return deferred.called


def test_readiness_goes_off_first_and_everything_is_served_through_the_delay(clock, doors, drain, readiness):
    drain.start()
    assert not readiness.is_ready
    assert doors.log == ["wind down"]
    clock.advance(4.9)
    assert doors.log == ["wind down"]
    clock.advance(0.2)
    assert doors.log == ["wind down", "stop listening", "drain"]


def test_it_is_over_as_soon_as_the_last_connection_is(clock, doors, drain, registry):
    held = Held(doors, "a")
    done = drain.start()
    clock.advance(5)
    assert drain.phase is Phase.DRAINING
    held.end()
    assert fired(done)
    assert drain.phase is Phase.DRAINED
    outcomes = registry.counter("netapp_drain_connections_total", "", ("outcome",))
    assert (outcomes.child("finished").value, outcomes.child("cut").value) == (1, 0)
    assert not clock.getDelayedCalls()


def test_what_is_not_done_in_time_is_cut_and_counted(clock, doors, drain, registry):
    Held(doors, "slow")
    quick = Held(doors, "quick")
    done = drain.start()
    clock.advance(5)
    quick.end()
    clock.advance(29)
    assert "cut slow" not in doors.log
    clock.advance(1.5)
    assert doors.log[-1] == "cut slow"
    assert fired(done)
    outcomes = registry.counter("netapp_drain_connections_total", "", ("outcome",))
    assert (outcomes.child("finished").value, outcomes.child("cut").value) == (1, 1)


@pytest.mark.parametrize("waited", [1, 10], ids=["in the delay", "in the timeout"])
def test_a_second_signal_ends_the_wait_at_once(clock, doors, drain, waited):
    Held(doors, "a")
    done = drain.start()
    clock.advance(waited)
    drain.hurry()
    clock.advance(0)
    assert "cut a" in doors.log
    assert fired(done)


def test_asking_twice_is_one_drain_and_both_are_told(clock, doors, drain):
    first, second = drain.start(), drain.start()
    clock.advance(5)
    assert fired(first)
    assert fired(second)
    assert doors.log.count("drain") == 1
    assert fired(drain.start())


def test_the_phase_is_a_metric(clock, drain, registry):
    state = registry.gauge("netapp_drain_state", "", ("phase",))
    assert state.child("serving").current() == 1
    drain.start()
    assert (state.child("serving").current(), state.child("announced").current()) == (0, 1)
    clock.advance(5)
    assert state.child("drained").current() == 1
