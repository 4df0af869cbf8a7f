"""From an error to the response that tells the client about it, and nothing else."""

import json

import pytest

from netapp.errors import DeadlineExceeded, Draining, LimitExceeded, PeerAborted
from netapp.http import Headers, HttpError, Request
from netapp.http.errors import error_response, reason_phrase, status_of
from netapp.peer import Peer


def request(accept=None):
    return Request("GET", b"/", Headers([("accept", accept)] if accept else []), Peer("c"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HttpError(418), 418),
        (DeadlineExceeded("request_deadline"), 504),
        (TimeoutError(), 504),
        (LimitExceeded("max_body"), 503),
        (Draining(), 503),
        (PeerAborted("gone"), 500),
        (ValueError("a defect"), 500),
    ],
)
def test_the_status_says_whose_turn_it_is(error, status):
    assert status_of(error) == status
    assert error_response(error).status == status


def test_the_page_is_text_unless_json_is_preferred():
    error = HttpError(404, "no such user")
    assert error_response(error).body == b"404 Not Found\nno such user\n"
    assert error_response(error, request()).body == b"404 Not Found\nno such user\n"
    found = error_response(error, request("application/json"))
    assert json.loads(found.body) == {"status": 404, "error": "Not Found", "detail": "no such user"}
    assert found.headers.get("content-type") == "application/json"


@pytest.mark.parametrize("accept", [None, "application/json"])
@pytest.mark.parametrize(
    "error", [ValueError("password=hunter2"), LimitExceeded("pool", "10.0.0.7 is full"), TimeoutError("db01")]
)
def test_nothing_internal_is_shown(error, accept):
    body = error_response(error, request(accept)).body
    assert str(error).encode() not in body
    assert b"detail" not in body


def test_the_errors_own_fields_are_in_the_page():
    found = error_response(HttpError(401, headers=[("WWW-Authenticate", "Bearer")]))
    assert found.headers.get("www-authenticate") == "Bearer"


def test_the_fields_that_filters_asked_for_are_in_the_page():
    asked = request()
    asked.error_fields += ((b"x-request-id", b"7"),)
    assert error_response(ValueError(), asked).headers.get("x-request-id") == "7"


def test_two_pages_of_one_error_share_no_headers():
    """Errors may be constants, as those are that a hot path raises."""
    error = HttpError(404, headers=[("A", "1")])
    error_response(error).headers.add("B", "2")
    assert "b" not in error_response(error).headers


def test_an_unregistered_status_has_no_phrase_but_a_page():
    assert (reason_phrase(404), reason_phrase(299)) == ("Not Found", "")
    assert error_response(HttpError(499)).body == b"499 Error\n"
