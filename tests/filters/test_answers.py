"""What filters do with an answer that is here, and with one that is waited for."""

import pytest
from twisted.internet.defer import Deferred, NotACoroutineError, succeed

from netapp.filters.answers import set_field, then, waited, with_fields
from netapp.http import HttpError, Response


def marked(response):
    response.headers.set("marked", "yes")
    return response


def test_a_plain_response_is_changed_in_the_same_call():
    plain = Response()
    assert then(plain, marked) is plain
    assert "marked" in plain.headers


def test_a_deferred_is_changed_when_it_fires():
    given, found = Deferred(), []
    then(given, marked).addCallback(found.append)
    assert found == []
    given.callback(Response(201))
    assert (found[0].status, "marked" in found[0].headers) == (201, True)


def test_a_coroutine_runs_and_is_changed_at_its_end():
    step, found = Deferred(), []

    async def respond():
        return Response(await step)

    then(respond(), marked).addCallback(found.append)
    step.callback(202)
    assert (found[0].status, "marked" in found[0].headers) == (202, True)


def test_a_failure_passes_as_it_is():
    failed = []
    given = Deferred()
    then(given, marked).addErrback(failed.append)
    given.errback(HttpError(404))
    assert failed[0].value.status == 404


def test_what_is_no_response_is_left_to_the_protocol_to_complain_about():
    found = []
    then(succeed("text"), marked).addCallback(found.append)
    assert found == ["text"]
    with pytest.raises(NotACoroutineError):
        then(None, marked)


def test_a_deferred_is_waited_for_itself():
    given = Deferred()
    assert waited(given) is given


def test_a_field_replaces_those_of_its_name():
    response = Response(headers=[("a", "1"), ("b", "2"), ("a", "3")])
    set_field(response, (b"a", b"4"))
    assert list(response.headers) == [("b", "2"), ("a", "4")]


def test_fields_are_in_every_answer(make_request):
    around = with_fields([("Cache-Control", "no-store"), ("X-A", "1")])
    shared = Response(headers=[("cache-control", "public")])
    for _ in range(3):
        answer = around(lambda _: shared)(make_request())
    assert list(answer.headers) == [("cache-control", "no-store"), ("x-a", "1")]


def test_fields_are_in_the_page_of_an_error_too(make_request):
    def fail(_):
        raise HttpError(404)

    request = make_request()
    with pytest.raises(HttpError):
        with_fields([("A", "1")])(fail)(request)
    assert request.error_fields == ((b"a", b"1"),)


@pytest.mark.parametrize("field", [("a b", "1"), ("a", "1\r\nb: 2")])
def test_a_malformed_field_is_refused_when_the_filter_is_made(field):
    with pytest.raises(ValueError, match="header field"):
        with_fields([field])
