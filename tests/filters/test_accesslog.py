"""One event for each finished request, safe to show in a terminal."""

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs, formatEvent

from netapp.errors import PeerAborted
from netapp.filters import access_log, request_id
from netapp.filters.accesslog import printable
from netapp.http import Response, Router, compose


@pytest.fixture
def events():
    return []


@pytest.fixture
def logger(events):
    return Logger(namespace="test", observer=events.append)


def visit(around, request, status=200, sent=5, error=None):
    around(lambda _: Response())(request)
    request.finish(status, sent, error)


def test_an_event_has_all_the_facts(events, logger, make_request):
    clock, router = Clock(), Router()
    router.add("/users/{id}", lambda _: Response.text("hello"))
    request = make_request("GET", b"/users/7?token=secret", started=clock.seconds())
    compose(router, request_id(), access_log(logger, now=clock.seconds))(request)
    assert events == []
    clock.advance(0.5)
    request.finish(200, 5, None)
    (event,) = events
    wanted = {
        "method": "GET",
        "path": "/users/7",
        "status": 200,
        "sent": 5,
        "seconds": 0.5,
        "peer": "192.0.2.1:4711",
        "listener": "web",
        "route": "/users/{id}",
        "request_id": request.id,
        "error": None,
    }
    assert {key: event[key] for key in wanted} == wanted
    assert formatEvent(event) == '192.0.2.1:4711 "GET /users/7" 200, 5 B in 0.5000 s'
    assert "secret" not in str(event)


def test_it_says_why_a_response_was_cut_short(events, logger, make_request):
    visit(access_log(logger), make_request(), 200, 5, PeerAborted("gone\n"))
    assert events[0]["error"] == "PeerAborted: gone\\n"
    assert formatEvent(events[0]).endswith("cut short: PeerAborted: gone\\n")


def test_nothing_a_client_sends_reaches_a_terminal_unescaped(events, logger, make_request):
    headers = [("user-agent", "a\x9b2J{log_system}")]
    visit(access_log(logger, fields=["User-Agent"]), make_request("GET", b"/{method}\x1b[2J\r\n\x9bx", headers))
    text = formatEvent(events[0])
    assert text.isprintable()
    assert "/{method}\\x1b[2J\\r\\n\\x9bx" in text
    assert events[0]["field_user_agent"] == "a\\x9b2J{log_system}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("a\\nb", "a\\nb"),
        ("a\nb\\n", "a\\nb\\\\n"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable_text_is_left_alone_and_the_rest_escaped(text, shown):
    assert printable(text) == shown


def test_header_fields_are_added_on_request(events, logger, make_request):
    around = access_log(logger, fields=["Referer", "User-Agent"])
    visit(around, make_request(headers=[("referer", "a"), ("referer", "b")]))
    assert (events[0]["field_referer"], events[0]["field_user_agent"]) == ("a, b", "")


def test_a_sample_leaves_out_most_but_no_failure(events, logger, make_request):
    around = access_log(logger, sample=10)
    for _ in range(25):
        visit(around, make_request())
    assert len(events) == 2
    visit(around, make_request(), 503)
    visit(around, make_request(), 200, 3, PeerAborted("gone"))
    visit(around, make_request(), 404)
    assert [event["status"] for event in events[2:]] == [503, 200]


@pytest.mark.parametrize("level", ["debug", "info", "warn"])
def test_the_level_is_chosen(events, logger, make_request, level):
    visit(access_log(logger, level=level), make_request())
    assert events[0]["log_level"].name == level


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="sample must be at least 1"):
        access_log(sample=0)


def test_it_has_a_namespace_of_its_own(make_request):
    with capturedLogs() as logged:
        visit(access_log(), make_request())
    assert [event["log_namespace"] for event in logged] == ["netapp.access"]
