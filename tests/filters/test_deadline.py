"""An answer in time, or 504."""

import gc
import weakref

import pytest
from twisted.internet.defer import CancelledError, Deferred, NotACoroutineError, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from netapp.errors import DeadlineExceeded, PeerAborted
from netapp.filters import deadline
from netapp.http import HttpError, Response
from netapp.http.errors import status_of
from netapp.timers import Timers


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def within_ten(clock):
    return deadline(10, timers=Timers(clock, clock.seconds))


@pytest.fixture
def logged():
    with capturedLogs() as events:
        yield events


def pass_time(clock, seconds):
    clock.pump([0.05] * round(seconds / 0.05))


def outcome_of(answer):
    """Collect what a Deferred fires with."""
    found = []
    answer.addBoth(found.append)
    return found


def start(around, responder, make_request):
    return outcome_of(around(responder)(make_request()))


def has_timer(clock):
    return bool(clock.getDelayedCalls())


def test_a_plain_response_costs_no_timer(within_ten, clock, make_request):
    plain = Response()
    assert within_ten(lambda _: plain)(make_request()) is plain
    assert not has_timer(clock)


@pytest.mark.parametrize("kind", ["deferred", "coroutine"])
def test_neither_does_an_answer_that_is_there_already(within_ten, clock, make_request, kind):
    async def respond():
        return Response()

    found = start(within_ten, lambda _: succeed(Response()) if kind == "deferred" else respond(), make_request)
    assert found[0].status == 200
    assert not has_timer(clock)


def test_an_answer_in_time_is_the_answer(within_ten, clock, make_request, logged):
    given = Deferred()
    found = start(within_ten, lambda _: given, make_request)
    pass_time(clock, 9.9)
    given.callback(Response(201))
    assert found[0].status == 201
    pass_time(clock, 30)
    assert not has_timer(clock)
    assert logged == []


def test_a_failure_in_time_is_the_failure(within_ten, make_request):
    given = Deferred()
    found = start(within_ten, lambda _: given, make_request)
    given.errback(HttpError(404))
    assert found[0].value.status == 404


def test_after_the_deadline_the_responder_is_cancelled_and_the_client_has_504(within_ten, clock, make_request, logged):
    cancelled = []
    given = Deferred(cancelled.append)
    found = start(within_ten, lambda _: given, make_request)
    pass_time(clock, 9.95)
    assert (found, cancelled) == ([], [])
    pass_time(clock, 0.3)
    assert cancelled == [given]
    assert isinstance(found[0].value, DeadlineExceeded)
    assert (found[0].value.rule, status_of(found[0].value)) == ("request_deadline", 504)
    assert [event["log_level"].name for event in logged] == ["warn"]
    assert logged[0]["seconds"] == 10


def test_a_coroutine_is_cancelled_where_it_waits(within_ten, clock, make_request):
    seen = []

    async def respond(_):
        try:
            await Deferred()
        finally:
            seen.append("cleaned up")

    found = start(within_ten, respond, make_request)
    pass_time(clock, 10.3)
    assert seen == ["cleaned up"]
    assert found[0].check(DeadlineExceeded)


def test_a_deferred_that_waits_for_another_is_waited_for(within_ten, clock, make_request):
    """It has been called, and its result is not there."""
    inner = Deferred()
    found = start(within_ten, lambda _: succeed(None).addCallback(lambda _: inner), make_request)
    assert has_timer(clock)
    pass_time(clock, 10.3)
    assert found[0].check(DeadlineExceeded)


def test_who_swallows_the_cancellation_cannot_answer_instead(within_ten, clock, make_request):
    async def respond(_):
        try:
            await Deferred()
        except CancelledError:
            return Response(200)

    found = start(within_ten, respond, make_request)
    pass_time(clock, 10.3)
    assert [each.type for each in found] == [DeadlineExceeded]


def test_who_goes_on_after_the_cancellation_cannot_answer_later(within_ten, clock, make_request):
    later = Deferred()

    async def respond(_):
        try:
            await Deferred()
        except CancelledError:
            await later
        return Response(200)

    found = start(within_ten, respond, make_request)
    pass_time(clock, 10.3)
    assert len(found) == 1
    assert found[0] is None or found[0].check(DeadlineExceeded)
    later.callback(None)
    assert len(found) == 1


@pytest.mark.parametrize(("error", "levels"), [(ValueError(), ["warn", "critical"]), (PeerAborted("gone"), ["warn"])])
def test_a_late_defect_is_logged(within_ten, clock, make_request, logged, error, levels):
    async def respond(_):
        try:
            await Deferred()
        finally:
            raise error

    found = start(within_ten, respond, make_request)
    pass_time(clock, 10.3)
    assert found[0].check(DeadlineExceeded)
    assert [event["log_level"].name for event in logged] == levels


def test_a_canceller_that_fails_does_not_keep_the_client_from_its_504(within_ten, clock, make_request, logged):
    def fail(_):
        raise RuntimeError("in the canceller")

    found = start(within_ten, lambda _: Deferred(fail), make_request)
    pass_time(clock, 10.3)
    assert found[0].check(DeadlineExceeded)
    assert "in the canceller" in str([event.get("log_failure") for event in logged])


def test_a_cancellation_that_ends_the_connection_is_no_error(within_ten, clock, make_request, logged):
    """The protocol then cancels what it waits for, while the deadline is about to answer it."""
    waiting = []
    given = Deferred(lambda _: waiting[0].cancel())
    waiting.append(within_ten(lambda _: given)(make_request()))
    found = outcome_of(waiting[0])
    pass_time(clock, 10.3)
    assert found[0].check(CancelledError)
    assert [event["log_level"].name for event in logged] == ["warn"]


def test_the_clients_cancellation_reaches_the_responder(within_ten, clock, make_request, logged):
    cancelled = []
    answer = within_ten(lambda _: Deferred(cancelled.append))(make_request())
    found = outcome_of(answer)
    answer.cancel()
    assert len(cancelled) == 1
    assert found[0].check(CancelledError)
    pass_time(clock, 30)
    assert len(cancelled) == 1
    assert logged == []


def test_what_is_answered_after_the_client_has_gone_is_dropped(within_ten, make_request):
    later = Deferred()

    async def respond(_):
        try:
            await Deferred()
        except CancelledError:
            return await later

    answer = within_ten(respond)(make_request())
    found = outcome_of(answer)
    answer.cancel()
    later.callback(Response())
    assert len(found) == 1
    assert found[0] is None or found[0].check(CancelledError)


def test_a_responder_that_raises_at_once_is_let_through(within_ten, make_request):
    def fail(_):
        raise HttpError(404)

    with pytest.raises(HttpError):
        within_ten(fail)(make_request())
    with pytest.raises(NotACoroutineError):
        within_ten(lambda _: "text")(make_request())


def test_a_request_is_let_go_of_with_its_answer(within_ten, make_request):
    """Without waiting for the garbage collector, or for the wheel to turn."""

    class Marker:
        pass

    given, request, marker = Deferred(), make_request(), Marker()
    request.state["marker"] = marker
    gone = weakref.ref(marker)
    answer = within_ten(lambda _, given=given: given)(request).addCallback(lambda _: None)
    gc.disable()
    try:
        given.callback(Response())
        del request, marker, given, answer
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_deadline_is_in_the_future(seconds):
    with pytest.raises(ValueError, match="must be positive"):
        deadline(seconds)


def test_it_works_on_a_clock_alone(make_request):
    clock = Clock()
    start(deadline(10, clock), lambda _: Deferred(), make_request)
    assert has_timer(clock)


def test_it_works_with_nothing_but_seconds(make_request):
    assert deadline(10)(lambda _: Response(204))(make_request()).status == 204
