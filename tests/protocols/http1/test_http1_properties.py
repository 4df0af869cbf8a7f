"""What holds for every input: one answer however it is split, and no trace of anything afterwards."""

from itertools import pairwise
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from netapp.http import Response
from netapp.protocols.http1 import receiver
from tests.support.http import Ledger, Site, chunked, echo, get, hello, message, post

OFFER = ("Connection: Upgrade", "Upgrade: h2c")
EXPECT = "Expect: 100-continue"
contents = st.binary(max_size=400)
READING = {"/echo", "/mirror", "/stream", "/slow"}
paths = st.sampled_from(["/hello", *sorted(READING)])
extras = st.lists(st.sampled_from(["X: y", "Accept: application/json", "X_Y: z", "A:", "B: \t c \t"]), max_size=3)
cuts = st.lists(st.integers(0, 3000), max_size=25)
trailers = st.sampled_from([b"", b"T: u\r\n", b"T: u\r\nV: w\r\n"])


@st.composite
def requests(draw):
    """One valid request that keeps the connection: (method, path, content, bytes)."""
    path = draw(paths)
    fields = draw(extras)
    if draw(st.booleans()) and draw(st.booleans()):
        fields = [*fields, *OFFER]
    kind = draw(st.sampled_from(["GET", "HEAD", "DELETE", "length", "chunked", "absolute"]))
    content = draw(contents)
    if kind == "length":
        return "POST", path, content, post(path, content, *fields)
    if kind == "chunked" and path in READING:  # elsewhere, whether all is there by the answer depends on the split
        pieces = [piece for piece in split(content, draw(cuts)) if piece]
        return "POST", path, content, chunked(path, pieces, *fields, trailer=draw(trailers))
    if kind == "absolute":
        return "GET", path, b"", message("GET", f"http://example.com{path}", *fields)
    method = kind if kind in {"HEAD", "DELETE"} else "GET"
    return method, path, b"", message(method, path, *fields)


def split(data, at):
    edges = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges) if start < stop]


async def pieces_of(request):
    async for piece in request.body:
        yield piece
    yield request.path.encode()


def serve(**policy):
    """A site, and the ledger of its requests."""
    ledger = Ledger(lambda request: answer(request, site.clock))
    site = Site(ledger, **policy)
    return site, ledger


def answer(request, clock):
    if request.path == "/echo":
        return echo(request)
    if request.path == "/slow":
        return deferLater(clock, 0.01).addCallback(lambda _: Deferred.fromCoroutine(echo(request)))
    if request.path == "/mirror":
        return Response(200, request.body)
    if request.path == "/stream":
        return Response(200, pieces_of(request))
    return hello(request)


def expected(method, path, content):
    if method == "HEAD":
        return b""
    added = b"" if path in READING - {"/stream"} else path.encode()
    return (content if path in READING else b"") + added


def check_no_trace(site, client, ledger):
    if not client.gone:
        client.lose()
    assert ledger.open == 0
    assert site.held == 0
    assert not client.protocol._queue
    assert client.protocol._current is None
    site.clock.advance(200)
    assert not site.clock.getDelayedCalls()


@settings(max_examples=150, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=6), cuts, st.sampled_from([1, 7, 100, 16384]), st.integers(1, 16))
def test_any_split_of_valid_requests_gives_the_same_responses(asked, at, slice_, pipelined):
    site, ledger = serve(max_pipelined=pipelined)
    client = site.connect()
    with patch.object(receiver, "SLICE", slice_):
        client.send(*split(b"".join(data for *_, data in asked), at))
        client.wait(1)
    methods = [method for method, *_ in asked]
    answers = client.answers(*methods)
    assert [answer.status for answer in answers] == [200] * len(asked)
    assert [answer.body for answer in answers] == [expected(*one[:3]) for one in asked]
    assert all(answer.whole for answer in answers)
    assert not client.half_closed
    assert client.wire.reading
    client.send(get("/again"))
    assert client.answers(*methods)[-1].body == b"/again"
    check_no_trace(site, client, ledger)


START_LINES = [
    "GET ",
    "POST ",
    "HEAD ",
    "FROB ",
    "/",
    "/echo",
    "/mirror",
    "*",
    "http://x/",
    " ",
    " HTTP/1.1",
    " HTTP/1.0",
]
FIELDS = [
    "Host: x",
    "Host: y",
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 400000",
    "Content-Length: 2000000",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade\r\nUpgrade: h2c",
    "Expect: 100-continue",
    "Expect: x",
    "A: b",
    "A_b: c",
    " c",
]
CHUNKS = ["3\r\nabc\r\n", "0\r\n\r\n", "5;a=b\r\n", "0\r\nA: b\r\n\r\n", "abc"]
STRAY = ["\r\n", "\r\n\r\n", "\n", "\r", "\t", ":", "\0", "\x85", "\xff", "\x16\x03\x01"]
WHOLE = [
    get(),
    get("/echo", *OFFER),
    get("/", version="1.0"),
    get("/", "Connection: close"),
    post("/echo", b"abc"),
    post("/", b"abc", *OFFER),
    post("/echo", b"abc", EXPECT),
    chunked("/echo", [b"abc"]),
    chunked("/mirror", [b"abc"]),
    message("POST", "/echo", "Content-Length: 9"),
]
FRAGMENTS = [
    text.encode("latin-1") for text in START_LINES + [f"{field}\r\n" for field in FIELDS] + CHUNKS + STRAY
] + WHOLE
streams = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=5)), max_size=12).map(b"".join),
)


@settings(max_examples=300, deadline=None)
@given(streams, cuts, st.booleans(), st.booleans())
def test_any_bytes_in_any_split_are_answered_or_refused_and_leave_nothing(data, at, closes, tls):
    site, ledger = serve()
    client = site.connect(tls=tls)
    client.send(*split(data, at))
    if closes:
        client.close()
    client.answers()  # well-formed, or this fails
    client.wait(120, step=0.5)
    assert client.gone, "no connection lives for ever"
    check_no_trace(site, client, ledger)


def final(pieces):
    """The final statuses and bodies that ``pieces`` are answered with, and whether the connection was closed then."""
    methods = []

    def noting(request):
        methods.append(request.method)
        return whole(request)

    site = Site(noting)
    client = site.connect()
    client.send(*pieces)
    methods += ["GET"] * 9
    answers = [answer for answer in client.answers(*methods) if answer.status >= 200]
    return [(answer.status, answer.body) for answer in answers], client.half_closed


async def whole(request):
    """Answer when the content is there, so that the answer does not depend on when it came."""
    return Response(200, request.path.encode() + await request.body.read())


@settings(max_examples=300, deadline=None)
@given(streams, cuts, st.booleans())
def test_any_bytes_are_answered_in_the_same_way_however_they_are_split(data, at, bytewise):
    pieces = [data[at : at + 1] for at in range(len(data))] if bytewise else split(data, at)
    assert final(pieces) == final([data] if data else [])


@settings(max_examples=100, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=8), st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_a_client_that_reads_in_small_sips_gets_the_same_and_little_is_held_for_it(asked, sips):
    site, ledger = serve()
    client = site.connect(room=0, mark=200)
    client.send(b"".join(data for *_, data in asked))
    for sip in sips:
        client.take(sip)
        client.wait(0.1)
    assert client.wire.most_waiting <= 200 + 2000
    client.take()
    client.wait(1)
    methods = [method for method, *_ in asked]
    answers = client.answers(*methods)
    assert [answer.body for answer in answers] == [expected(*one[:3]) for one in asked]
    check_no_trace(site, client, ledger)


@settings(max_examples=200, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=6), cuts, st.integers(0, 4000), st.booleans())
def test_a_client_may_vanish_at_any_byte(asked, at, vanishes, closes):
    site, ledger = serve()
    client = site.connect(room=500, mark=200)
    client.send(*split(b"".join(data for *_, data in asked)[:vanishes], at))
    if closes:
        client.close()
        client.take()
        client.wait(3)
        assert client.gone
    check_no_trace(site, client, ledger)
