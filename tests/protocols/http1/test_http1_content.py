"""Content of requests: limits, back-pressure, and what is left unread."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from netapp.errors import End, NetappError
from netapp.http import HttpError, Response
from tests.support.http import (
    READ,
    Desk,
    Ledger,
    Site,
    chunk,
    chunked,
    echo,
    get,
    hello,
    message,
    mirror,
    post,
)


def test_content_with_a_length_is_read():
    client = Site(echo).connect()
    client.send(post("/", b"content"))
    assert client.answer().body == b"content"


def test_content_in_chunks_is_read_without_its_framing():
    client = Site(echo).connect()
    client.send(chunked("/", [b"one", b"two" * 100], trailer=b"Digest: x\r\n"))
    assert client.answer().body == b"one" + b"two" * 100


def test_trailers_are_dropped():
    """RFC 9110 §6.5.1: a trailer must not pass for a header field."""
    seen = []

    async def responder(request):
        await request.body.read()
        seen.append(request.headers)
        return Response()

    client = Site(responder).connect()
    client.send(chunked("/", [b"x"], trailer=b"X-User: root\r\n"))
    assert "x-user" not in seen[0]
    client.send(get("/"))
    assert "x-user" not in seen[1]


def test_a_request_without_content_has_an_empty_body():
    client = Site(echo).connect()
    client.send(get(), post("/", b""))
    assert client.bodies == [b"", b""]


def test_content_is_handed_on_as_it_arrives():
    pieces = []

    async def responder(request):
        async for piece in request.body:
            pieces.append(piece)  # noqa: PERF401 - one by one is the point
        return Response()

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 6"), b"abc")
    assert pieces == [b"abc"]
    client.send(b"def")
    assert pieces == [b"abc", b"def"]
    assert client.answer().status == 200


def test_content_in_several_reads_before_the_responder_reads_is_whole():
    gate = Deferred()

    async def responder(request):
        await gate
        return Response(200, await request.body.read())

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 6"), b"ab", b"cd", b"ef")
    gate.callback(None)
    assert client.answer().body == b"abcdef"


# limits


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_content_of_the_largest_size_is_read(framing):
    client = Site(echo, max_body=1000).connect()
    client.send(post("/", b"x" * 1000) if framing == "length" else chunked("/", [b"x" * 500] * 2))
    assert client.answer().body == b"x" * 1000


def test_announced_content_over_the_limit_is_refused_before_it_is_sent():
    ledger = Ledger(echo)
    site = Site(ledger, max_body=1000)
    client = site.connect()
    client.send(message("POST", "/", "Content-Length: 1001"))
    assert client.statuses == [413]
    assert client.half_closed
    assert ledger.begun == 0
    assert site.refused == {413: 1}


def test_content_in_chunks_over_the_limit_is_refused_where_it_goes_over():
    site = Site(echo, max_body=1000)
    client = site.connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 900))
    assert not client.answers()
    client.send(chunk(b"x" * 101))
    assert client.statuses == [413]
    assert client.answer().closes
    assert client.half_closed
    assert site.refused == {413: 1}
    assert client.protocol.ending.end is End.POLICY_LIMIT


def test_content_over_the_limit_of_a_request_that_waits_is_told_when_its_turn_comes():
    gate = Deferred()

    async def responder(request):
        if request.path == "/first":
            await gate
            return Response.text("first")
        return await echo(request)

    client = Site(responder, max_body=1000).connect()
    client.send(get("/first") + message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 1001))
    assert not client.answers()
    gate.callback(None)
    client.turn()
    assert client.statuses == [200, 413]
    assert client.half_closed


def test_a_responder_that_does_not_read_may_answer_before_the_content_goes_over_the_limit():
    client = Site(hello, max_body=1000).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 1001))
    assert client.answer().closes
    assert client.half_closed


def test_content_that_goes_over_the_limit_behind_its_answer_ends_the_connection():
    site = Site(mirror, max_body=1000)
    client = site.connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 900))
    client.send(chunk(b"x" * 900))
    assert client.answer().body == b"x" * 900
    assert not client.answer().whole
    assert client.gone


def test_a_responder_may_lower_the_limit():
    async def responder(request):
        return Response(200, await request.body.read(limit=10))

    client = Site(responder).connect()
    client.send(post("/", b"x" * 11), post("/", b"x" * 10))
    assert client.statuses == [413, 200]


def test_endless_trailers_are_refused():
    site = Site(echo)
    client = site.connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x") + b"0\r\n")
    sent = 0
    while not client.half_closed and sent < 10**6:
        client.send(b"A: b\r\n" * 1000)
        sent += 6000
    assert client.statuses == [431]
    assert site.refused == {431: 1}


@pytest.mark.parametrize("begin", [b"0\r\nA: ", b"0\r\nA", b"5;"])
def test_a_trailer_or_a_chunk_extension_without_an_end_is_refused(begin):
    site = Site(echo)
    client = site.connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x") + begin)
    sent = 0
    while not client.half_closed and sent < 10**6:
        client.send(b"a" * 5000)
        sent += 5000
    assert client.statuses == [431]
    assert sent < 50_000


def test_trailers_and_extensions_of_a_decent_size_are_read_however_they_arrive():
    data = message("POST", "/", "Transfer-Encoding: chunked") + b"3;" + b"e" * 2000 + b"\r\nabc\r\n0\r\n"
    data += b"A: b\r\n" * 1000 + b"\r\n"
    for size in (len(data), 10, 1000):
        client = Site(echo).connect()
        client.send(*[data[at : at + size] for at in range(0, len(data), size)])
        assert client.answer().body == b"abc"


# back-pressure


def test_content_that_nobody_reads_stops_the_client():
    desk = Desk()
    client = Site(desk).connect()
    client.send(message("POST", "/", f"Content-Length: {10 * READ}"), *[b"x" * READ] * 10)
    assert not client.wire.reading
    held = desk.requests[0].body.size
    assert READ < held <= 2 * READ


def test_reading_the_content_lets_the_client_go_on():
    sizes = []

    async def responder(request):
        await deferLater(site.clock, 1)
        total = 0
        async for piece in request.body:
            total += len(piece)
            sizes.append(request.body.size)
            await deferLater(site.clock, 0.1)
        return Response.text(str(total))

    site = Site(responder)
    client = site.connect()
    client.send(message("POST", "/", f"Content-Length: {10 * READ}"), *[b"x" * READ] * 10)
    client.wait(8)
    assert client.answer().body == str(10 * READ).encode()
    assert max(sizes) <= 2 * READ
    assert client.wire.reading


def test_a_client_that_is_not_read_from_is_not_too_slow():
    gate = Deferred()

    async def responder(request):
        await gate
        return Response.text(str(len(await request.body.read())))

    client = Site(responder).connect()
    client.send(message("POST", "/", f"Content-Length: {10 * READ}"), *[b"x" * READ] * 5)
    client.wait(300)
    gate.callback(None)
    client.send(*[b"x" * READ] * 5)
    assert client.answer().body == str(10 * READ).encode()


def test_a_client_that_is_read_from_again_has_to_hurry_again():
    gate = Deferred()

    async def responder(request):
        await gate
        return Response.text(str(len(await request.body.read())))

    client = Site(responder).connect()
    client.send(message("POST", "/", f"Content-Length: {10 * READ}"), *[b"x" * READ] * 5)
    client.wait(100)
    gate.callback(None)
    client.turn()
    client.wait(29)
    assert not client.answers()
    client.wait(3)
    assert client.statuses == [408]


@pytest.mark.parametrize("read", [True, False])
def test_content_that_is_over_the_buffer_with_its_last_bytes_does_not_stop_the_client_for_ever(read):
    gate = Deferred()

    async def responder(request):
        if request.method == "GET":
            return hello(request)
        await gate
        return Response(200, await request.body.read() if read else b"")

    client = Site(responder, body_buffer=1000).connect()
    client.send(post("/", b"x" * 5000), get("/next"))
    assert not client.wire.reading
    gate.callback(None)
    client.turn()
    assert client.statuses == [200, 200]
    assert client.wire.reading


def test_content_in_crumbs_is_not_held_in_many_times_its_size():
    desk = Desk()
    client = Site(desk).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked"), *[chunk(b"xy") * 1000] * 100)
    assert not client.wire.reading
    assert desk.requests[0].body.pace.received <= 4000


def test_much_that_came_before_content_is_not_taken_for_its_framing():
    client = Site(echo).connect()
    client.send(post("/", b"x" * 60_000)[:100], post("/", b"x" * 60_000)[100:] + post("/", b"abc")[:-3], b"abc")
    assert client.bodies[1] == b"abc"


# content that is not read


def test_a_little_unread_content_is_drained_and_the_connection_kept():
    client = Site(hello).connect()
    client.send(message("POST", "/a", "Content-Length: 262144"), *[b"x" * READ] * 4, get("/b"))
    assert client.bodies == [b"/a", b"/b"]
    assert not client.answers()[0].closes
    assert not client.half_closed


def test_much_unread_content_closes_the_connection_behind_the_answer():
    client = Site(hello).connect()
    client.send(message("POST", "/a", "Content-Length: 262145"))
    assert client.answer().closes
    assert client.half_closed
    client.send(b"x" * READ, get("/b"))
    assert client.wire.reading, "what still comes is read and dropped, or a reset would destroy the answer"
    assert client.bodies == [b"/a"]


def test_unread_content_in_chunks_closes_the_connection_behind_the_answer():
    client = Site(hello).connect()
    client.send(message("POST", "/a", "Transfer-Encoding: chunked") + chunk(b"x"))
    assert client.answer().closes
    assert client.half_closed


def test_unread_content_that_has_arrived_costs_nothing():
    client = Site(hello).connect()
    client.send(chunked("/a", [b"x"]), post("/b", b"x" * 300_000))
    assert client.bodies[0] == b"/a"
    assert not client.answers()[0].closes


def test_an_early_answer_while_the_content_comes_in_leaves_the_client_room_to_send():
    """An application's own 413: the client must be able to read it, however much it still sends."""

    async def responder(request):
        async for _ in request.body:
            raise HttpError(413)

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 1000000"), *[b"x" * READ] * 8)
    assert client.statuses == [413]
    assert client.half_closed
    assert client.wire.reading
    client.close()
    assert client.gone
    assert "abort" not in client.wire.log


@pytest.mark.parametrize("tls", [False, True])
def test_a_client_that_was_not_read_from_is_read_from_for_its_end(tls):
    gate = Deferred()
    client = Site(lambda _: gate).connect(tls=tls)
    client.send(message("POST", "/", "Transfer-Encoding: chunked"), *[chunk(b"x" * 10_000)] * 20)
    assert not client.wire.reading
    gate.callback(Response.text("enough"))
    client.turn()
    assert client.answer().closes
    client.close()
    assert client.gone
    assert "abort" not in client.wire.log


def test_an_early_answer_inside_one_read_does_not_hold_the_rest_of_it():
    """The answer is made while the parser is in the middle of the content."""
    bodies = []

    async def responder(request):
        bodies.append(request.body)
        await anext(request.body)
        return Response(200, b"enough")

    client = Site(responder, body_buffer=10).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked"))
    client.send(b"".join(chunk(b"x" * 100) for _ in range(100)))
    assert client.answer().body == b"enough"
    assert client.half_closed
    assert client.wire.reading
    assert bodies[0].size == 0


def test_reading_content_after_the_response_is_over_fails():
    """It was dropped: to end as if it were complete would be a lie."""
    bodies = []

    def responder(request):
        bodies.append(request.body)
        return hello(request)

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 10"), b"abc")
    late = Deferred.fromCoroutine(bodies[0].read())
    failures = []
    late.addErrback(failures.append)
    client.send(b"defghij")
    assert failures[0].check(NetappError)


def test_a_reader_that_outlives_the_response_is_told():
    failures = []

    def responder(request):
        Deferred.fromCoroutine(request.body.read()).addErrback(failures.append)
        return hello(request)

    client = Site(responder).connect()
    client.send(message("POST", "/", "Content-Length: 10"), b"abc")
    assert failures[0].check(NetappError)
