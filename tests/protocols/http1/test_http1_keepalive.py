"""When a connection is kept, and when and how it is closed (RFC 9112 §9.3, §9.6)."""

import pytest
from twisted.internet.defer import Deferred

from netapp.errors import End
from netapp.http import Response
from tests.support.http import Desk, Site, chunk, echo, get, hello, message, post


@pytest.mark.parametrize(
    ("version", "fields", "kept"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: close"], False),
        ("1.1", ["Connection: Close"], False),
        ("1.1", ["Connection: keep-alive"], True),
        ("1.1", ["Connection: foo, close"], False),
        ("1.1", ["Connection: close , foo"], False),
        ("1.1", ["Connection: foo"], True),
        ("1.1", ["Connection:"], True),
        ("1.1", ["Connection: close, keep-alive"], False),
        ("1.1", ["Connection: close", "Connection: keep-alive"], False),
        ("1.1", ["Connection: keep-alive", "Connection: close"], False),
        ("1.0", [], False),
        ("1.0", ["Connection: close"], False),
        ("1.0", ["Connection: keep-alive"], True),
        ("1.0", ["Connection: Keep-Alive"], True),
        ("1.0", ["Connection: foo, keep-alive"], True),
        ("1.0", ["Connection: close, keep-alive"], False),
        ("1.0", ["Connection: keep-alive, close"], False),
        ("1.0", ["Connection: keep-alive", "Connection: close"], False),
        ("1.0", ["Connection: close", "Connection: keep-alive"], False),
    ],
)
def test_a_connection_is_kept_as_its_version_and_the_connection_field_say(version, fields, kept):
    client = Site(hello).connect()
    client.send(get("/a", *fields, version=version))
    assert client.half_closed is not kept
    assert client.answer().closes is not kept
    if kept:
        client.send(get("/b", "Connection: keep-alive", version=version))
        assert client.bodies == [b"/a", b"/b"]


def test_what_is_kept_for_http_1_0_is_said_so():
    client = Site(hello).connect()
    client.send(get("/", "Connection: keep-alive", version="1.0"))
    assert client.answer().headers["connection"] == "keep-alive"


def test_http_1_1_needs_no_word_to_keep_a_connection():
    client = Site(hello).connect()
    client.send(get("/"))
    assert "connection" not in client.answer().headers


def test_a_parser_that_will_read_no_more_and_the_answer_agree():
    """The parser takes Proxy-Connection for Connection: the answer must then say that the connection closes."""
    client = Site(hello).connect()
    client.send(get("/", "Proxy-Connection: close"))
    assert client.answer().closes
    assert client.half_closed


@pytest.mark.parametrize("first", [["Connection: close"], ["Connection: close, keep-alive"]])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_follows_a_request_that_said_close_is_nobodys(first, version):
    asked = []

    def responder(request):
        asked.append(request.path)
        return hello(request)

    client = Site(responder).connect()
    client.send(get("/a", *first, version=version) + get("/b", version=version) + b"garbage")
    assert client.bodies == [b"/a"]
    assert asked == ["/a"]
    assert client.half_closed


def test_after_max_requests_the_connection_says_close_and_closes():
    client = Site(hello, max_requests=3).connect()
    for path in ("/1", "/2", "/3"):
        client.send(get(path))
    assert [answer.closes for answer in client.answers()] == [False, False, True]
    assert client.half_closed


def test_requests_that_were_pipelined_beyond_max_requests_are_answered_before_the_close():
    client = Site(hello, max_requests=2).connect()
    client.send(get("/1") + get("/2") + get("/3"))
    assert [answer.closes for answer in client.answers()] == [False, False, True]
    assert client.half_closed


def test_a_client_that_always_has_one_more_request_waiting_does_not_escape_max_requests():
    desk = Desk()
    client = Site(desk, max_requests=3).connect()
    client.send(get("/0"))
    for number in range(1, 20):
        client.send(get(f"/{number}"))
        if desk.pending:
            desk.answer()
    while desk.pending:
        desk.answer()
    client.turn()
    assert client.half_closed
    assert len(client.answers()) <= 5
    assert client.answers()[-1].closes


def test_max_requests_of_zero_is_no_limit():
    client = Site(hello, max_requests=0).connect()
    client.send(*[get()] * 1100)
    assert len(client.answers()) == 1100
    assert not client.half_closed


def test_winding_down_says_close_with_the_next_response():
    client = Site(hello).connect()
    client.send(get("/a"))
    client.protocol.wind_down()
    client.turn()
    assert not client.half_closed
    client.send(get("/b"))
    assert [answer.closes for answer in client.answers()] == [False, True]
    assert client.half_closed


def test_draining_closes_an_idle_connection_at_once():
    site = Site(hello)
    client = site.connect()
    client.send(get())
    client.protocol.drain()
    client.turn()
    assert client.half_closed
    assert client.protocol.ending.end is End.POLICY_DRAIN
    assert client.protocol.state == "closing"


def test_draining_gives_a_new_connection_a_second_for_its_first_request():
    client = Site(hello).connect()
    client.protocol.drain()
    client.wait(0.5)
    client.send(get("/"))
    assert client.answer().closes
    assert client.half_closed


def test_draining_closes_a_connection_that_never_asks_for_anything():
    client = Site(hello).connect()
    client.protocol.drain()
    client.wait(1.3)
    assert client.half_closed
    assert client.wire.sent == b""
    assert client.protocol.ending.end is End.POLICY_DRAIN


def test_draining_answers_all_that_was_accepted_and_then_closes():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get("/a") + get("/b") + get("/c"))
    client.protocol.drain()
    client.turn()
    assert not client.half_closed
    for text in ("a", "b", "c"):
        desk.answer(text)
        client.turn()
    assert client.bodies == [b"a", b"b", b"c"]
    assert [answer.closes for answer in client.answers()] == [False, False, True]
    assert client.half_closed


def test_draining_lets_a_request_that_has_begun_to_arrive_complete():
    client = Site(hello).connect()
    whole = get("/late")
    client.send(whole[:20])
    client.protocol.drain()
    client.send(whole[20:])
    assert client.answer().body == b"/late"
    assert client.answer().closes
    assert client.half_closed


def test_draining_during_a_stream_whose_head_promised_to_stay_closes_behind_it():
    gate = Deferred()

    async def pieces():
        yield b"begun"
        await gate
        yield b"done"

    client = Site(lambda _: Response(200, pieces())).connect()
    client.send(get())
    client.protocol.drain()
    client.turn()
    assert not client.half_closed
    gate.callback(None)
    client.turn()
    assert client.answer().whole
    assert client.half_closed


def test_draining_while_unread_content_still_arrives_closes_behind_it():
    """The answer, which promised to stay, is out; no other one follows that could say close."""
    client = Site(hello).connect()
    whole = post("/", b"x" * 1000)
    client.send(whole[:-500])
    assert client.answer().status == 200
    client.protocol.drain()
    client.send(whole[-500:])
    assert client.half_closed


def test_draining_answers_a_request_whose_content_still_arrives():
    client = Site(echo).connect()
    whole = post("/", b"content")
    client.send(whole[:-3])
    client.protocol.drain()
    client.send(whole[-3:])
    assert client.answer().body == b"content"
    assert client.half_closed


def test_a_client_that_keeps_pipelining_does_not_put_the_drain_off():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get("/") + get("/"))
    client.protocol.drain()
    for _ in range(10):
        if desk.pending:
            desk.answer()
        client.send(get("/"))
    assert client.half_closed


@pytest.mark.parametrize("drained", [False, True])
def test_state_says_what_the_connection_is_doing(drained):
    desk = Desk()
    client = Site(desk).connect()
    assert client.protocol.state == "idle"
    client.send(b"GET ")
    assert client.protocol.state == "reading"
    client.send(get()[4:])
    assert client.protocol.state == "active"
    if drained:
        client.protocol.drain()
    desk.answer()
    client.turn()
    assert client.protocol.state == ("closing" if drained else "idle")


def test_an_http_1_0_request_without_host_is_served():
    client = Site(lambda request: Response.text(request.host or "none")).connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.answer().body == b"none"


def test_the_next_request_after_chunked_content_is_read_from_where_it_begins():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"one") + b"0\r\n\r\n" + post("/", b"two"))
    assert client.bodies == [b"one", b"two"]
