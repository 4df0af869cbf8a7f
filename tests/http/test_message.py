"""Requests and responses."""

import asyncio
import json

import pytest

from netapp.http import Headers, HttpError, Request, Response, Upgrade
from netapp.http.message import EMPTY_BODY
from netapp.peer import Peer


def request(target=b"/", **fields):
    return Request("GET", target, Headers(), Peer("c1"), **fields)


def test_the_target_is_split_at_the_first_question_mark():
    found = request(b"/a%20b?x=1?y")
    assert (found.raw_path, found.query_string, found.path) == (b"/a%20b", b"x=1?y", "/a b")
    assert found.path is found.path


def test_a_protocol_may_split_the_target_itself():
    found = request(b"http://x/a?b", raw_path=b"/a", query_string=b"b")
    assert (found.path, found.query_string) == ("/a", b"b")
    assert request(b"*", raw_path=b"*").query_string == b""


def test_a_path_that_is_not_utf_8_is_still_a_text():
    assert request(b"/%ff").path == "/\ufffd"


def test_the_query_keeps_order_repetitions_and_blanks():
    assert request(b"/?b=2&a=&b=%26+").query == [("b", "2"), ("a", ""), ("b", "& ")]


def test_a_query_of_too_many_fields_is_the_clients_fault():
    with pytest.raises(HttpError) as caught:
        request(b"/?" + b"a&" * 2000).query  # noqa: B018 - reading it is the test
    assert caught.value.status == 400


def test_state_is_made_when_it_is_asked_for():
    found = request()
    found.state["a"] = 1
    assert found.state == {"a": 1}
    assert request().state == {}


def test_each_finisher_is_told_once():
    found, told = request(), []
    found.on_finish(lambda *facts: told.append(("first", *facts)))
    found.on_finish(lambda *facts: told.append(("second", *facts)))
    found.finish(200, 5, None)
    found.finish(500, 0, None)
    assert told == [("first", found, 200, 5, None), ("second", found, 200, 5, None)]


def test_a_failing_finisher_does_not_keep_the_next_one_from_its_duty():
    """One that releases a count must be called whatever another does."""
    found, told = request(), []

    def fail(*_):
        raise RuntimeError("mine")

    found.on_finish(fail)
    found.on_finish(lambda *_: told.append("released"))
    with pytest.raises(RuntimeError, match="mine"):
        found.finish(200, 0, None)
    assert told == ["released"]


def test_a_request_nobody_asked_about_finishes_in_silence():
    request().finish(200, 0, None)


def test_it_is_shown_by_its_id_or_by_its_connections():
    found = request(b"/a")
    assert repr(found) == "<Request GET '/a' c1>"
    found.id = "r7"
    assert repr(found) == "<Request GET '/a' r7>"


def test_the_empty_body_is_empty_however_it_is_read():
    async def read():
        return await EMPTY_BODY.read(), [piece async for piece in EMPTY_BODY]

    assert asyncio.run(read()) == (b"", [])


def test_responses_of_text_html_and_json_say_what_they_are():
    assert Response.text("é", 201).body == "é".encode()
    assert Response.text("").headers.get("content-type") == "text/plain; charset=utf-8"
    assert Response.html("<p>").headers.get("content-type") == "text/html; charset=utf-8"
    found = Response.json({"a": [1, None]}, 400)
    assert (found.status, json.loads(found.body)) == (400, {"a": [1, None]})
    assert found.headers.get("content-type") == "application/json"


def test_each_response_of_text_has_headers_of_its_own():
    first, second = Response.text("a"), Response.text("b")
    first.headers.add("A", "1")
    assert len(second.headers) == 1


def test_headers_are_taken_in_any_form():
    headers = Headers({"A": "1"})
    assert Response(headers=headers).headers is headers
    assert Response(headers=[("A", "1")]).headers == headers
    assert repr(Response(204)) == "<Response 204>"


def test_an_upgrade_is_a_response_that_builds_a_protocol():
    found = Upgrade(lambda request: ("protocol", request))
    assert found.status == 101
    assert found.build("r") == ("protocol", "r")
    assert repr(found) == "<Upgrade 101>"
