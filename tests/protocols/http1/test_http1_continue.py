"""``Expect: 100-continue``: asked for when it is wanted, and never behind a final answer (RFC 9110 §10.1.1)."""

from twisted.internet.defer import Deferred

from netapp.http import Response
from tests.support.http import Desk, Site, echo, get, hello, message, mirror

EXPECT = "Expect: 100-continue"


def test_continue_is_sent_when_the_responder_reads():
    gate = Deferred()

    async def responder(request):
        await gate
        return await echo(request)

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    assert not client.answers()
    gate.callback(None)
    assert client.statuses == [100]
    client.send(b"abc")
    assert client.statuses == [100, 200]
    assert client.answers()[1].body == b"abc"
    assert not client.answers()[1].closes


def test_continue_is_sent_once():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT), b"a", b"b", b"c")
    assert client.statuses == [100, 200]


def test_continue_is_not_sent_when_the_content_is_there():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT) + b"abc")
    assert client.statuses == [200]
    assert not client.answer().closes


def test_continue_is_not_sent_when_the_content_has_begun():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT) + b"a", b"bc")
    assert client.statuses == [200]


def test_continue_is_sent_in_turn():
    desk = Desk()
    client = Site(lambda request: desk(request) if request.path == "/slow" else echo(request)).connect()
    client.send(get("/slow") + message("POST", "/", "Content-Length: 3", EXPECT))
    assert not client.answers()
    desk.answer("slow")
    client.turn()
    assert client.statuses == [200, 100]
    client.send(b"abc")
    assert client.statuses == [200, 100, 200]


def test_a_final_answer_instead_of_continue_closes_the_connection():
    """Nobody can know whether the client will send the content now."""
    client = Site(hello).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    assert client.statuses == [200]
    assert client.answer().closes
    assert client.half_closed


def test_a_refusal_instead_of_continue_closes_the_connection():
    client = Site(hello, max_body=2).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    assert client.statuses == [413]
    assert client.half_closed


def test_http_1_0_is_not_told_to_continue():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT, version="1.0"), b"abc")
    assert client.statuses == [200]


def test_an_expectation_without_content_is_met():
    client = Site(hello).connect()
    client.send(get("/a", EXPECT), get("/b"))
    assert client.bodies == [b"/a", b"/b"]


def test_a_response_that_streams_the_content_back_asks_for_it_before_its_head():
    client = Site(mirror).connect()
    client.send(message("POST", "/", "Content-Length: 6", EXPECT))
    assert client.statuses == [100]
    client.send(b"abc")
    assert client.statuses == [100, 200]
    client.send(b"def")
    assert client.answers()[1].body == b"abcdef"
    assert client.answers()[1].whole


def test_continue_is_never_sent_behind_the_head_of_the_response():
    def responder(request):
        async def pieces():
            yield b"first"
            async for piece in request.body:
                yield piece

        return Response(200, pieces())

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    assert client.statuses == [200]
    assert b"100 Continue" not in client.wire.sent
    client.send(b"abc")
    assert client.answer().body == b"firstabc"
    assert client.answer().whole


def test_an_error_before_the_head_of_a_stream_has_the_fields_that_filters_want_in_it():
    def responder(request):
        request.error_fields = ((b"x-request-id", b"7"),)
        return mirror(request)

    client = Site(responder, max_body=10).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked", EXPECT), b"b\r\nmuch too much\r\n")
    assert client.statuses == [100, 413]
    assert client.answers()[1].headers["x-request-id"] == "7"


def test_a_stream_that_never_read_what_the_client_expects_to_send_closes():
    client = Site(lambda _: Response(200, iter([b"a", b"b"]))).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    assert client.statuses == [200]
    assert client.answer().whole
    assert client.half_closed


def test_a_client_that_waits_for_continue_is_not_too_slow():
    """It is we who have not asked for the content."""
    gate = Deferred()

    async def responder(request):
        await gate
        return await echo(request)

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    client.wait(120)
    assert not client.answers()
    gate.callback(None)
    client.send(b"abc")
    assert client.statuses == [100, 200]


def test_a_client_that_was_told_to_continue_has_to_hurry():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 3", EXPECT))
    assert client.statuses == [100]
    client.wait(32)
    assert client.statuses == [100, 408]


def test_sixteen_waiting_requests_of_which_the_last_expects_to_continue_are_all_answered():
    desk = Desk()
    client = Site(lambda request: desk(request) if request.method == "GET" else echo(request)).connect()
    client.send(*[get()] * 16, message("POST", "/", "Content-Length: 3", EXPECT), b"abc", get())
    for _ in range(17):
        desk.answer()
        client.turn()
    assert [status for status in client.statuses if status != 100] == [200] * 18
