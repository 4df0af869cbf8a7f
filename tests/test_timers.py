"""The timing wheel that holds every connection's deadline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from netapp.timers import NEVER, Timers


class Thing:
    def __init__(self, log=None):
        self.deadline = NEVER
        self.slot = 0
        self.fired = []
        self.log = log

    def expired(self, now):
        self.fired.append(now)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timers(clock):
    return Timers(clock, now=clock.seconds)


def advance(clock, seconds, step=0.05):
    clock.pump([step] * round(seconds / step))


def test_a_deadline_fires_after_its_instant_and_at_most_a_tick_late(clock, timers):
    thing = Thing()
    timers.arm(thing, 1.0)
    advance(clock, 0.95)
    assert not thing.fired
    advance(clock, 0.3)
    [when] = thing.fired
    assert 1.0 <= when <= 1.16


def test_a_deadline_that_is_moved_away_by_assignment_alone_does_not_fire_at_the_old_instant(clock, timers):
    """Lazy re-arming: the wheel looks at the old instant, and files the thing anew for what remains."""
    thing = Thing()
    timers.arm(thing, 1.0)
    thing.deadline = 3.0
    advance(clock, 2.9)
    assert not thing.fired
    advance(clock, 0.3)
    assert len(thing.fired) == 1


def test_a_nearer_deadline_takes_effect_at_once(clock, timers):
    thing = Thing()
    timers.arm(thing, 75.0)
    timers.arm(thing, 1.0)
    advance(clock, 1.2)
    assert len(thing.fired) == 1
    advance(clock, 80)
    assert len(thing.fired) == 1


def test_never_is_dropped_and_leaves_nothing_scheduled(clock, timers):
    thing = Thing()
    timers.arm(thing, 1.0)
    thing.deadline = NEVER
    advance(clock, 1.5)
    assert not thing.fired
    assert thing.slot == 0
    assert not clock.getDelayedCalls()


def test_a_disarmed_thing_is_not_kept_alive(timers):
    """However many connections end in one instant, the wheel holds none of them: a flood leaves no memory behind."""
    things = [Thing() for _ in range(500)]
    for thing in things:
        timers.arm(thing, 10.0)
    assert len(timers) == 500
    for thing in things:
        timers.disarm(thing)
    assert len(timers) == 0


def test_one_action_that_raises_does_not_keep_its_neighbours_from_firing(clock, timers):
    class Broken(Thing):
        def expired(self, now):
            raise RuntimeError("defect")

    broken, well = Broken(), Thing()
    timers.arm(broken, 1.0)
    timers.arm(well, 1.0)
    advance(clock, 1.5)
    assert len(well.fired) == 1


def test_a_thing_may_be_armed_again_from_its_own_action(clock, timers):
    class Repeating(Thing):
        def expired(self, now):
            super().expired(now)
            timers.arm(self, now + 1.0)

    thing = Repeating()
    timers.arm(thing, 1.0)
    advance(clock, 3.5)
    assert len(thing.fired) == 3


def test_a_thing_disarmed_by_its_neighbour_in_the_same_tick_does_not_fire(clock, timers):
    things = [Thing(), Thing()]

    def disarm_other(index):
        def expired(now):
            things[index].fired.append(now)
            timers.disarm(things[1 - index])

        return expired

    for index, thing in enumerate(things):
        thing.expired = disarm_other(index)
        timers.arm(thing, 1.0)
    advance(clock, 1.5)
    assert sum(len(thing.fired) for thing in things) == 1


@given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(0.01, 20)), max_size=20))
def test_whatever_the_order_each_fires_once_and_never_early(pairs):
    clock = Clock()
    timers = Timers(clock, now=clock.seconds)
    things = []
    for first, second in pairs:
        thing = Thing()
        timers.arm(thing, first)
        timers.arm(thing, second)
        things.append((thing, second))
    clock.pump([0.1] * 220)
    for thing, deadline in things:
        [when] = thing.fired
        assert deadline <= when <= deadline + 0.31
