"""Responses that are produced piece by piece: framing, back-pressure, and every way in which they end."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from netapp.errors import End, PeerAborted
from netapp.http import Headers, HttpError, Response
from netapp.protocols.http1.sender import LengthMismatch
from tests.support.http import READ, Ledger, Site, get, message, mirror, post


class Source:
    """An asynchronous iterator of ``count`` pieces that remembers what became of it."""

    def __init__(self, pieces, fails=None):
        self._pieces = list(pieces)
        self._fails = fails
        self.given = 0
        self.closed = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self._pieces:
            if self._fails is not None:
                raise self._fails
            raise StopAsyncIteration
        self.given += 1
        return self._pieces.pop(0)

    async def aclose(self):
        self.closed += 1


class File:
    """A synchronous iterator with ``close``, as open files have."""

    def __init__(self, pieces):
        self._pieces = iter(pieces)
        self.closed = 0

    def __iter__(self):
        return self._pieces

    def close(self):
        self.closed += 1


async def generate(pieces, ends):
    try:
        for piece in pieces:
            yield piece
    finally:
        ends.append("ended")


def serve(body, *, method="GET", version="1.1", headers=(), status=200, **options):
    ledger = Ledger(lambda _: Response(status, body, headers))
    client = Site(ledger).connect(**options)
    client.ledger = ledger
    client.send(message(method, "/", version=version))
    return client


# framing


def test_an_iterable_of_unknown_length_is_sent_in_chunks():
    client = serve([b"one", b"two"])
    assert client.answer().headers["transfer-encoding"] == "chunked"
    assert client.answer().body == b"onetwo"
    assert client.answer().whole
    assert not client.half_closed


def test_an_asynchronous_iterable_is_sent_in_chunks():
    client = serve(generate([b"one", b"two"], []))
    assert client.answer().body == b"onetwo"


def test_an_empty_piece_does_not_end_the_chunks():
    client = serve([b"one", b"", b"two"])
    assert client.answer().body == b"onetwo"
    assert client.answer().whole


def test_no_pieces_at_all_are_an_empty_body():
    client = serve([])
    assert client.answer().body == b""
    assert client.answer().whole


def test_an_announced_length_is_kept():
    client = serve([b"one", b"two"], headers={"Content-Length": "6"})
    assert client.answer().headers["content-length"] == "6"
    assert "transfer-encoding" not in client.answer().headers
    assert client.answer().body == b"onetwo"
    assert not client.half_closed


@pytest.mark.parametrize(("pieces", "what"), [([b"one"], "less"), ([b"one", b"two", b"three"], "more")])
def test_a_stream_that_is_not_as_long_as_announced_is_cut(pieces, what, complaints):
    client = serve(pieces, headers={"Content-Length": "6"})
    assert len(client.answer().body) < 6 or what == "more"
    assert len(client.wire.sent.partition(b"\r\n\r\n")[2]) <= 6, "more than announced would be the next response"
    assert client.gone
    assert "abort" in client.wire.log
    [event] = complaints
    assert isinstance(event["error"], LengthMismatch)


def test_a_length_that_is_no_number_is_the_responders_defect(complaints):
    source = Source([b"one"])
    client = serve(source, headers={"Content-Length": "six"})
    assert client.statuses == [500]
    assert source.closed == 1
    assert len(complaints) == 1


@pytest.mark.parametrize("length", ["-1", "+1", "1_0", " 1"])
def test_a_length_that_others_would_read_otherwise_is_the_responders_defect(length, complaints):
    client = serve([b"x"], headers=Headers.from_raw([(b"content-length", length.encode())]))
    assert client.statuses == [500]


def test_http_1_0_gets_a_stream_until_the_connection_closes():
    client = serve([b"one", b"two"], version="1.0")
    assert client.answer().body == b"onetwo"
    assert "transfer-encoding" not in client.answer().headers
    assert client.answer().closes
    assert client.half_closed


def test_http_1_0_closes_behind_a_stream_even_if_it_would_rather_not():
    asked = []
    client = Site(lambda request: asked.append(request) or Response(200, [b"one"])).connect()
    client.send(get("/a", "Connection: keep-alive", version="1.0") + get("/b", version="1.0"))
    assert client.answer().body == b"one"
    assert len(asked) == 1
    assert client.half_closed


def test_http_1_0_keeps_the_connection_behind_a_stream_of_announced_length():
    client = Site(lambda _: Response(200, [b"one"], {"Content-Length": "3"})).connect()
    client.send(get("/a", "Connection: keep-alive", version="1.0"), get("/b", version="1.0"))
    assert client.bodies == [b"one", b"one"]


@pytest.mark.parametrize("kind", [Source, File])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 304)])
def test_a_response_that_has_no_content_does_not_send_its_stream_and_closes_it(kind, method, status):
    source = kind([b"one"])
    client = serve(source, method=method, status=status)
    assert client.answer(method).status == status
    assert client.wire.sent.endswith(b"\r\n\r\n")
    assert source.closed == 1
    assert not client.half_closed


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_has_no_framing(status):
    for body in (b"", b"never sent", [b"never sent"]):
        client = serve(body, status=status)
        assert not {"content-length", "transfer-encoding"} & set(client.answer().headers)
        assert client.wire.sent.endswith(b"\r\n\r\n")


def test_head_says_what_get_would():
    for body, name, value in ((b"abc", "content-length", "3"), ([b"abc"], "transfer-encoding", "chunked")):
        client = serve(body, method="HEAD")
        assert client.answer("HEAD").headers[name] == value
        assert client.wire.sent.endswith(b"\r\n\r\n")


def test_head_may_announce_the_length_of_content_that_was_not_made():
    for body in (b"", []):
        client = serve(body, method="HEAD", headers={"Content-Length": "1234"})
        assert client.answer("HEAD").headers["content-length"] == "1234"


def test_a_responder_does_not_decide_over_the_connections_own_fields():
    fields = {"Connection": "close", "Transfer-Encoding": "gzip", "Keep-Alive": "1", "Upgrade": "h2c", "X-Own": "yes"}
    client = serve(b"abc", headers=[*fields.items(), ("Content-Length", "99")])
    answer = client.answer()
    assert answer.body == b"abc"
    assert set(answer.headers) == {"date", "x-own", "content-length"}
    assert not client.half_closed


def test_a_responders_own_date_is_kept_and_there_is_only_one():
    client = serve(b"", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    assert [value for name, value in client.answer().raw_headers if name == "date"] == ["Thu, 01 Jan 1970 00:00:00 GMT"]


# back-pressure


@pytest.mark.parametrize("kind", ["list", "generator", "source"])
def test_a_stream_stops_while_the_client_does_not_read_and_goes_on_with_it(kind):
    given = []

    def pieces():
        for _ in range(100):
            given.append(1)
            yield b"x" * 10_000

    async def slowly():
        for piece in pieces():
            yield piece

    body = {"list": [b"x" * 10_000] * 100, "generator": pieces(), "source": slowly()}[kind]
    client = serve(body, room=0, mark=READ)
    assert client.wire.unsent < READ + 2 * 10_000
    if given:
        assert len(given) <= 8
    before = len(given)
    client.take(30_000)
    assert len(given) == before, "not before the buffer has run empty"
    for _ in range(50):
        client.take(100_000)
        assert client.wire.unsent < READ + 2 * 10_000
    client.take()
    assert client.answer().body == b"x" * 1_000_000
    assert client.answer().whole


def test_a_stream_gives_other_connections_a_turn():
    client = serve([b"x" * READ] * 20)
    assert not client.answer().whole
    client.wait(0.5)
    assert client.answer().whole


def test_a_stream_that_has_to_wait_for_the_client_from_the_start_does():
    source = Source([b"x" * 10] * 10)
    bodies = {"/big": b"x" * 10_000, "/stream": source}
    gate = Deferred()

    async def responder(request):
        if request.path == "/stream":
            await gate
        return Response(200, bodies[request.path])

    client = Site(responder).connect(room=0, mark=1000)
    client.protocol.dataReceived(get("/stream"))
    client.protocol.pauseProducing()
    gate.callback(None)
    assert source.given <= 1
    client.protocol.resumeProducing()
    assert source.given == 10


def test_the_client_may_read_and_send_at_different_paces():
    """Streaming the content back holds no more than both buffers, however slowly the client reads."""
    client = Site(mirror, max_body=10 * READ).connect(room=0)
    client.send(message("POST", "/", f"Content-Length: {10 * READ}"), *[b"x" * READ] * 10)
    assert client.wire.unsent <= 3 * READ
    assert not client.wire.reading
    for _ in range(40):
        client.take(READ)
        client.wait(0.1)
    assert client.answer().body == b"x" * 10 * READ
    assert client.answer().whole
    assert client.wire.most_waiting <= 3 * READ


# the end


def test_a_client_that_leaves_closes_a_generator_that_waits():
    ends = []

    async def pieces():
        try:
            yield b"one"
            await Deferred()
        finally:
            ends.append("ended")

    client = serve(pieces())
    assert client.answer().body == b"one"
    client.lose()
    assert ends == ["ended"]
    assert client.ledger.ends[0][:3] == ("/", 200, 3)
    assert isinstance(client.ledger.ends[0][3], PeerAborted)


@pytest.mark.parametrize("kind", ["asynchronous", "synchronous"])
def test_a_client_that_leaves_closes_a_generator_that_is_paused(kind):
    ends = []

    def pieces():
        try:
            while True:
                yield b"x" * READ
        finally:
            ends.append("ended")

    async def slowly():
        try:
            while True:
                yield b"x" * READ
        finally:
            ends.append("ended")

    client = serve(pieces() if kind == "synchronous" else slowly(), room=0)
    client.lose()
    assert ends == ["ended"]


def test_a_client_that_leaves_closes_a_generator_that_gave_the_reactor_a_turn():
    ends = []
    client = serve(generate([b"x" * READ] * 100, ends))
    client.lose()
    assert ends == ["ended"]
    client.wait(20)
    assert not client.clock.getDelayedCalls(), "nothing is left to go on with"


def test_a_generator_that_will_not_be_cancelled_is_left_alone():
    given = []

    async def stubborn():
        while True:
            try:
                given.append(1)
                yield b"x"
                await deferLater(client.clock, 1)
            except CancelledError:
                pass

    ledger = Ledger(lambda _: Response(200, stubborn()))
    client = Site(ledger).connect()
    client.send(get())
    client.lose()
    before = len(given)
    client.wait(10)
    assert len(given) <= before + 1
    assert ledger.open == 0


@pytest.mark.parametrize("kind", [Source, File])
def test_a_stream_that_is_sent_is_closed_once(kind):
    source = kind([b"one"])
    assert serve(source).answer().whole
    assert source.closed == 1


def test_a_stream_that_fails_midway_is_cut_so_that_it_does_not_look_complete(complaints):
    error = RuntimeError("boom")
    client = serve(Source([b"one"], error))
    assert client.answer().body == b"one"
    assert not client.answer().whole
    assert client.gone
    assert client.protocol.ending.end is End.INTERNAL
    assert client.ledger.ends == [("/", 200, 3, error)]
    [event] = complaints
    assert event["error"] is error


def test_requests_behind_a_stream_that_fails_are_not_answered(complaints):
    ledger = Ledger(lambda request: Response(200, Source([b"one"], RuntimeError())) if request.path == "/a" else 1 / 0)
    client = Site(ledger).connect()
    client.send(get("/a") + get("/b"))
    assert client.gone
    assert ledger.begun == 1
    assert ledger.open == 0


def test_a_stream_that_waits_for_content_which_is_refused_is_not_our_defect(complaints):
    """A client could fill the log with tracebacks."""
    ledger = Ledger(mirror)
    client = Site(ledger, max_body=10).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n", b"9\r\ntoo much!\r\n")
    assert client.gone
    assert not complaints
    assert client.protocol.ending.end is End.POLICY_LIMIT
    assert isinstance(ledger.ends[0][3], HttpError)


def test_a_stream_that_fails_before_its_head_is_out_is_answered_with_an_error():
    ledger = Ledger(mirror)
    client = Site(ledger, max_body=10).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked", "Expect: 100-continue"), b"b\r\nmuch too much\r\n")
    assert client.statuses == [100, 413]
    assert client.half_closed
    assert ledger.open == 0


def test_pieces_that_are_no_bytes_are_the_responders_defect(complaints):
    client = serve(["text"])
    assert client.gone
    assert len(complaints) == 1
    assert client.ledger.open == 0


@pytest.mark.parametrize("body", [None, 5])
def test_a_body_that_is_no_content_is_the_responders_defect(body, complaints):
    client = serve(body)
    assert client.statuses == [500]
    assert client.ledger.open == 0
    assert len(complaints) == 1


def test_a_response_that_comes_too_late_is_closed():
    """It may hold a file or another connection."""
    source = Source([b"one"])
    waiting = []

    def stubborn(_):
        waiting.append(Deferred(lambda deferred: deferred.callback(Response(200, source))))
        return waiting[0]

    client = Site(stubborn).connect()
    client.send(get())
    client.lose()
    assert source.closed == 1


def test_a_stream_is_counted_with_what_was_sent():
    client = serve([b"one", b"two"])
    assert client.ledger.ends == [("/", 200, 6, None)]


def test_post_and_stream_keep_the_connection():
    client = Site(mirror).connect()
    client.send(post("/", b"one"), post("/", b"two"))
    assert client.bodies == [b"one", b"two"]
    assert not client.half_closed
