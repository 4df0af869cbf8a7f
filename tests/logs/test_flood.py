"""Under flood each kind of event has a rate; what is above is counted, told of later, and costs bounded memory."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from netapp.logs import flood
from netapp.logs.flood import FloodFilter


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written():
    return []


@pytest.fixture
def limited(clock, written):
    """A filter that lets 10 events of a kind pass in a second."""
    return FloodFilter(written.append, 10, clock, now=clock.seconds)


def event(log_format="refused {peer}", level=LogLevel.info, namespace="netapp.test", **fields):
    return {"log_format": log_format, "log_level": level, "log_namespace": namespace, **fields}


def send(observer, count, **kind):
    for number in range(count):
        observer(event(peer=number, **kind))


def test_it_is_an_observer(limited):
    assert verifyObject(ILogObserver, limited)


def test_what_is_within_the_rate_passes_untouched(limited, written, clock):
    sent = [event(peer=number) for number in range(100)]
    for one in sent:
        limited(one)
        clock.advance(0.1)
    assert all(one is other for one, other in zip(sent, written, strict=True))
    assert clock.getDelayedCalls() == []


def test_a_flood_leaves_one_seconds_worth(limited, written):
    send(limited, 1000)
    assert len(written) == 10
    assert limited.suppressed.value == 990


def test_the_rate_is_given_again_as_time_goes_by(limited, written, clock):
    send(limited, 1000)
    clock.advance(0.5)
    send(limited, 1000)
    assert len(written) == 15


def test_a_pause_saves_up_no_more_than_one_second(limited, written, clock):
    send(limited, 1)
    clock.advance(3600)
    send(limited, 1000)
    assert len(written) == 1 + 10


def test_what_was_left_out_is_summed_up_once(limited, written, clock):
    send(limited, 1244)
    clock.advance(5)
    assert len(written) == 11
    assert formatEvent(written[-1]) == ("refused {peer} … 1,234 similar events were not written in the last 5 s")
    assert (written[-1]["log_level"], written[-1]["log_namespace"]) == (LogLevel.info, "netapp.test")
    assert written[-1]["log_time"] > 1_000_000_000
    clock.advance(60)
    assert len(written) == 11
    assert clock.getDelayedCalls() == []


def test_a_flood_that_goes_on_is_summed_up_every_five_seconds(limited, written, clock):
    for _ in range(20):
        send(limited, 100)
        clock.advance(1)
    summaries = [one["suppressed"] for one in written if "suppressed" in one]
    assert len(summaries) == 4
    assert sum(summaries) + len(written) - len(summaries) == 2000


def test_the_summary_is_of_the_seconds_since_the_first_that_was_left_out(limited, written, clock):
    send(limited, 10)
    clock.advance(0.01)
    send(limited, 1)
    clock.advance(2)
    limited.flush()
    assert (written[-1]["suppressed"], round(written[-1]["seconds"])) == (1, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"log_format": "other"},
        {"namespace": "netapp.other"},
        {"level": LogLevel.warn},
        {"log_failure": Failure(OSError())},
    ],
)
def test_another_kind_has_a_rate_of_its_own(limited, written, other):
    send(limited, 100)
    send(limited, 5, **other)
    assert len(written) == 15


@pytest.mark.parametrize("level", [LogLevel.error, LogLevel.critical])
def test_errors_have_ten_times_the_rate_but_have_one(limited, written, level):
    send(limited, 1000, level=level)
    assert len(written) == 100


def test_a_limit_of_0_is_none(clock, written):
    send(FloodFilter(written.append, 0, clock, now=clock.seconds), 1000)
    assert len(written) == 1000


def test_a_limit_below_one_a_second_still_lets_one_pass(clock, written):
    slow = FloodFilter(written.append, 0.5, clock, now=clock.seconds)
    send(slow, 10)
    assert len(written) == 1
    clock.advance(2)
    send(slow, 10)
    assert len(written) == 2


class TestManyKinds:
    def test_memory_is_bounded_and_the_rest_shares_a_rate(self, limited, written):
        for number in range(5000):
            limited(event(f"a message of its own {number}"))
        assert len(limited._kinds) <= flood.MAX_KINDS
        assert len(written) < flood.MAX_KINDS + 10
        assert limited.suppressed.value == 5000 - len(written)

    def test_the_rest_is_summed_up_together(self, limited, written):
        for number in range(5000):
            limited(event(f"a message of its own {number}"))
        limited.flush()
        assert "events of too many kinds" in formatEvent(written[-1])
        assert written[-1]["log_namespace"] == "netapp.logs.flood"

    def test_kinds_that_are_over_make_room(self, limited, written, clock):
        for number in range(5000):
            limited(event(f"a message of its own {number}"))
        clock.advance(60)
        written.clear()
        send(limited, 5, log_format="something new")
        assert [one["log_format"] for one in written] == ["something new"] * 5
        assert len(limited._kinds) < 10

    def test_a_kind_that_owes_a_summary_is_not_forgotten(self, limited, written, clock):
        send(limited, 100)
        clock.rightNow += 60
        for number in range(5000):
            limited(event(f"a message of its own {number}"))
        limited.flush()
        assert "refused {peer} … 90 similar" in " ".join(formatEvent(one) for one in written if "suppressed" in one)

    def test_errors_of_the_rest_keep_their_higher_rate(self, limited, written):
        for number in range(5000):
            limited(event(f"a message of its own {number}"))
        written.clear()
        for number in range(1000):
            limited(event(f"an error of its own {number}", level=LogLevel.error))
        assert len(written) == 100


class TestThreads:
    def test_an_event_of_another_thread_starts_no_timer_there(self, limited, written, clock):
        thread = threading.Thread(target=send, args=(limited, 100))
        thread.start()
        thread.join()
        assert clock.getDelayedCalls() == []
        limited(event("back home"))
        clock.advance(5)
        assert written[-1]["suppressed"] == 90

    def test_an_observer_that_logs_is_not_locked_out(self, clock):
        written = []

        def chatty(event):
            written.append(event)
            if len(written) < 5:
                limited(event)

        limited = FloodFilter(chatty, 100, clock, now=clock.seconds)
        limited(event())
        assert len(written) == 5

    def test_a_key_that_logs_while_it_is_made_is_not_locked_out(self, limited, written):
        """As a garbage collection does that finds a Deferred which failed unheard."""

        class Chatty:
            def __str__(self):
                limited(event("from within"))
                return "format"

        limited(event(Chatty()))
        assert len(written) == 2


def test_flush_writes_at_once_and_leaves_no_timer(limited, written, clock):
    send(limited, 100)
    limited.flush()
    assert written[-1]["suppressed"] == 90
    assert clock.getDelayedCalls() == []
    limited.flush()
    assert len(written) == 11


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.floats(0, 3))))
def test_every_event_is_either_written_or_counted(rounds):
    clock, written = Clock(), []
    limited = FloodFilter(written.append, 10, clock, now=clock.seconds)
    for log_format, count, pause in rounds:
        send(limited, count, log_format=log_format)
        clock.advance(pause)
    limited.flush()
    counted = sum(one["suppressed"] for one in written if "suppressed" in one)
    passed = sum(1 for one in written if "suppressed" not in one)
    assert passed + counted == sum(count for _, count, _ in rounds)
    assert counted == limited.suppressed.value
