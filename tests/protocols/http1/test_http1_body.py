"""A request's content between the connection and the responder, without either."""

import pytest
from twisted.internet.defer import Deferred

from netapp.errors import NetappError, PeerAborted
from netapp.http import HttpError
from netapp.protocols.http1 import HttpPolicy
from netapp.protocols.http1.body import PIECE, StreamBody
from netapp.protocols.http1.pace import Pace


def body():
    return StreamBody(lambda: None, 0.0)


def reading(stream, limit=None):
    return Deferred.fromCoroutine(stream.read(limit))


def result(deferred):
    results = []
    deferred.addBoth(results.append)
    return results[0] if results else None


def test_a_reader_waits_until_the_content_is_complete():
    stream = body()
    read = reading(stream)
    stream.feed(b"ab")
    stream.feed(b"cd")
    assert not read.called
    stream.end()
    assert result(read) == b"abcd"


def test_a_reader_that_waits_asks_for_more_each_time():
    demands = []
    stream = StreamBody(lambda: demands.append(1), 0.0)
    stream.feed(b"ab")
    reading(stream)
    assert len(demands) == 1
    stream.feed(b"cd")
    assert len(demands) == 2


def test_content_that_is_there_is_asked_for_by_nobody():
    demands = []
    stream = StreamBody(lambda: demands.append(1), 0.0)
    stream.feed(b"ab")
    stream.end()
    assert result(reading(stream)) == b"ab"
    assert not demands


def test_content_is_read_once():
    stream = body()
    stream.feed(b"ab")
    stream.end()
    assert result(reading(stream)) == b"ab"
    assert result(reading(stream)) == b""


def test_size_counts_what_is_held_and_what_holding_costs():
    stream = body()
    stream.feed(b"ab")
    stream.feed(b"c")
    assert stream.size == 3 + 2 * PIECE
    stream.end()
    reading(stream)
    assert stream.size == 0


def test_a_failure_is_raised_behind_what_came_before_it():
    stream = body()
    stream.feed(b"ab")
    stream.fail(PeerAborted("gone"))
    first = Deferred.fromCoroutine(anext(stream))
    assert result(first) == b"ab"
    for _ in range(2):
        assert result(reading(stream)).check(PeerAborted)


def test_a_failure_wakes_a_reader():
    stream = body()
    read = reading(stream)
    stream.fail(HttpError(413))
    assert result(read).value.status == 413


def test_complete_content_cannot_fail():
    stream = body()
    stream.feed(b"ab")
    stream.end()
    stream.fail(PeerAborted("gone"))
    assert result(reading(stream)) == b"ab"


def test_the_first_failure_counts():
    stream = body()
    stream.fail(HttpError(408))
    stream.fail(PeerAborted("gone"))
    assert result(reading(stream)).check(HttpError)


def test_dropped_content_is_gone_and_whoever_reads_it_is_told():
    stream = body()
    stream.feed(b"ab")
    stream.discard()
    assert stream.size == 0
    stream.feed(b"cd")
    stream.end()
    assert result(reading(stream)).check(NetappError)
    assert stream.size == 0


def test_a_limit_of_the_reader_is_kept():
    stream = body()
    read = reading(stream, limit=3)
    stream.feed(b"abcd")
    assert result(read).value.status == 413


def test_a_cancelled_reader_does_not_keep_the_next_one_from_reading():
    stream = body()
    first = reading(stream)
    first.addErrback(lambda _: None)
    first.cancel()
    second = reading(stream)
    stream.feed(b"ab")
    stream.end()
    assert result(second) == b"ab"


def test_overhead_counts_the_bytes_since_the_last_content():
    stream = body()
    assert stream.overhead(60_000) == 0, "the read with the header section, of whatever size"
    assert stream.overhead(10) == 10
    assert stream.overhead(10) == 20
    stream.pace.received += 1
    assert stream.overhead(10) == 0
    assert stream.overhead(10) == 10


# pace


POLICY = HttpPolicy(body_timeout=30, min_body_rate=240, body_grace=10)


def test_content_that_moves_fast_enough_breaks_no_rule():
    pace = Pace(0.0)
    for second in range(1, 100):
        pace.received += 240
        assert pace.look(float(second), POLICY) is None


def test_content_that_stands_still_breaks_a_rule_after_its_time():
    pace = Pace(0.0)
    pace.received = 10**9
    assert pace.look(1.0, POLICY) is None
    assert pace.look(30.9, POLICY) is None
    assert pace.look(31.0, POLICY) == "body_timeout"


def test_content_may_be_slow_at_first():
    pace = Pace(0.0)
    pace.received = 1
    assert pace.look(10.0, POLICY) is None
    pace.received = 2
    assert pace.look(10.1, POLICY) == "min_body_rate"


@pytest.mark.parametrize("twice", [False, True])
def test_the_clock_stands_still_while_we_do_not_read(twice):
    pace = Pace(0.0)
    pace.received = 100
    pace.pause(1.0)
    if twice:
        pace.pause(500.0)
    assert pace.paused
    assert pace.look(1000.0, POLICY) is None
    pace.resume(1000.0)
    if twice:
        pace.resume(1000.0)
    assert pace.look(1009.0, POLICY) is None
    pace.received = 101
    assert pace.look(1009.6, POLICY) == "min_body_rate"
