"""Each request has a name of its own, and its client is told it, whatever becomes of the request."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from netapp.filters import request_id
from netapp.http import HttpError, Response, Upgrade
from netapp.protocols.http1 import Http1Factory


def test_no_two_requests_have_the_same_id(make_request):
    first, second = (request_id()(lambda request: Response.text(request.id)) for _ in range(2))
    answers = [app(make_request()) for app in (first, second) for _ in range(100)]
    ids = [answer.headers.get("x-request-id") for answer in answers]
    assert len(set(ids)) == 200
    assert [answer.body.decode() for answer in answers] == ids


def test_the_header_can_be_another_one(make_request):
    answer = request_id("X-Correlation")(lambda _: Response())(make_request())
    assert "x-correlation" in answer.headers
    with pytest.raises(ValueError, match="not a header field name"):
        request_id("not a name")


def test_the_responders_own_idea_of_an_id_is_replaced(make_request):
    """As that of an upstream, whose response is passed on."""
    request = make_request()
    answer = request_id()(lambda _: Response(headers=[("X-Request-Id", "upstream")]))(request)
    assert answer.headers.get_all("x-request-id") == [request.id]


def test_a_response_that_is_used_again_does_not_grow(make_request):
    shared = Response()
    app = request_id()(lambda _: shared)
    for _ in range(3):
        request = make_request()
        app(request)
    assert shared.headers.get_all("x-request-id") == [request.id]


def test_an_answer_that_is_waited_for_has_it_too(make_request):
    given, found, request = Deferred(), [], make_request()
    request_id()(lambda _: given)(request).addCallback(found.append)
    given.callback(Response())
    assert found[0].headers.get("x-request-id") == request.id


def test_an_upgrade_passes(make_request):
    upgrade = Upgrade(lambda _: None)
    assert request_id()(lambda _: upgrade)(make_request()) is upgrade


@pytest.mark.parametrize("carried", ["abc-123", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a" * 128])
def test_a_clients_id_is_taken_over_only_where_it_is_trusted(make_request, carried):
    headers = [("X-Request-Id", carried)]
    trusting, request = request_id(trusted=True)(lambda _: Response()), make_request(headers=headers)
    assert trusting(request).headers.get("x-request-id") == carried
    assert request.id == carried
    request = make_request(headers=headers)
    request_id()(lambda _: Response())(request)
    assert request.id != carried


@pytest.mark.parametrize("carried", ["", "a b", "a" * 129, 'a"', "a\tb", "é", "a;b", "<script>", "a,b", "%0a"])
def test_what_could_confuse_a_log_is_never_taken_over(make_request, carried):
    request = make_request(headers=[("X-Request-Id", carried)])
    request_id(trusted=True)(lambda _: Response())(request)
    assert request.id != carried
    assert len(request.id) > 16


def test_two_carried_ids_are_none(make_request):
    request = make_request(headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    request_id(trusted=True)(lambda _: Response())(request)
    assert request.id not in {"a", "b"}


def raises(_):
    raise HttpError(404)


def breaks(_):
    raise ValueError("a defect")


async def breaks_later(_):
    raise ValueError("a defect")


def returns_nothing(_):
    return None


@pytest.mark.parametrize(
    ("responder", "status"), [(raises, 404), (breaks, 500), (breaks_later, 500), (returns_nothing, 500)]
)
def test_the_page_of_an_error_names_it(responder, status):
    """It is what a user can quote, and by which the traceback is found."""
    transport = StringTransport()
    with capturedLogs():
        protocol = Http1Factory(request_id()(responder), clock=Clock()).buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = transport.value().partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 %d " % status)
    assert head.count(b"x-request-id: ") == 1
