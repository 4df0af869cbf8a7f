"""HTTP/1 on real sockets: a real client, and peers that behave badly; nothing is left of any of them."""

import hashlib
import random
from io import BytesIO

import pytest
import pytest_twisted
import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent, HTTPConnectionPool

from netapp.filters.metrics import request_metrics
from netapp.http import Response, Router, Upgrade, compose
from netapp.listeners.tls import TlsPolicy, TlsStore
from netapp.protocols.http1 import Http1Factory, HttpPolicy
from tests.support.certificates import certificates, client_context
from tests.support.http import Ledger, chunk, get, message, mirror, post, read_answers
from tests.support.listening import pause, serving, until

MEGABYTE = 1024 * 1024
PIECE = 64 * 1024
SEED = 20_261_121


class Here:
    """A listener with HTTP behind it. ``policy`` is the engine's; ``options`` are the listener's."""

    def __init__(self, serve, policy, options):
        self.ended = []
        self.gates = []
        self.streamed = 0
        factory = Http1Factory(self._router(), HttpPolicy(**policy))
        self.served = serve(factory, kind="http", **options)
        factory.timers = self.served.timers
        self.ledger = Ledger(compose(factory.responder, request_metrics(self.served.registry, "here")))
        factory.responder = self.ledger

    def _router(self):
        router = Router()
        router.add("/hello", lambda _: Response.text("Hello, World!"), methods=["*"])
        router.add("/mirror", mirror, methods=["*"])
        router.add("/measure", self._measure, methods=["*"])
        router.add("/big", lambda _: Response(200, b"x" * 5 * MEGABYTE))
        router.add("/stream", lambda _: Response(200, self._stream()))
        router.add("/wait", self._wait)
        router.add("/boom", lambda _: 1 / 0)
        router.add("/shout", lambda _: Upgrade(lambda _: Shouting()))
        return router

    @staticmethod
    async def _measure(request):
        digest = hashlib.sha256()
        async for piece in request.body:
            digest.update(piece)
        return Response.text(digest.hexdigest())

    async def _stream(self):
        try:
            while True:
                self.streamed += 1
                yield b"x" * PIECE
        finally:
            self.ended.append("stream")

    async def _wait(self, _):
        gate = Deferred()
        self.gates.append(gate)
        try:
            await gate
        finally:
            self.ended.append("wait")
        return Response.text("waited")

    def connect(self, **options):
        return self.served.connect(**options)

    def url(self, path):
        host, port = self.served.address
        return f"http://{host}:{port}{path}"

    @property
    def connections(self):
        return list(self.served.listener.connections.values())

    async def stop(self):
        """See that every request is over before anything is torn down."""
        for peer in self.served.peers:
            peer.close()
        await until(lambda: not self.served.listener.connections, "the end of every connection")
        assert self.ledger.open == 0
        assert self.served.total("netapp_http_requests_in_flight") == 0
        assert self.served.total("netapp_http_requests_total") == self.ledger.begun


class Shouting(Protocol):
    """What ``/shout`` becomes: it answers in capitals."""

    def dataReceived(self, data):
        self.transport.write(data.upper())


@pytest_twisted.async_yield_fixture
async def serve():
    made = []

    async with serving() as make:

        def here(policy=None, **options):
            made.append(Here(make, policy or {}, options))
            made[-1].events = make.events
            return made[-1]

        yield here
        for one in made:
            await one.stop()


@pytest_twisted.async_yield_fixture
async def client():
    pool = HTTPConnectionPool(reactor)
    yield HTTPClient(Agent(reactor, pool=pool))
    await pool.closeCachedConnections()


def everything(data):
    """The answers in what a peer has read to the end."""
    return read_answers(data, ended=True)


# A real client


@pytest_twisted.ensureDeferred
async def test_a_client_is_answered_and_its_connection_used_again(serve, client):
    here = serve()
    for _ in range(5):
        response = await client.get(here.url("/hello"))
        assert response.code == 200
        assert await treq.text_content(response) == "Hello, World!"
    assert here.served.listener.accepted == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_posts_gets_its_content_back(serve, client):
    here = serve()
    for content in (b"", b"content", b"x" * 200_000):
        response = await client.post(here.url("/mirror"), data=content)
        assert await treq.content(response) == content


@pytest_twisted.ensureDeferred
async def test_five_megabytes_are_streamed_both_ways_at_once(serve, client):
    here = serve({"max_body": 10 * MEGABYTE})
    content = random.Random(SEED).randbytes(5 * MEGABYTE)
    received = hashlib.sha256()
    response = await client.post(here.url("/mirror"), data=BytesIO(content))
    await treq.collect(response, received.update)
    assert received.digest() == hashlib.sha256(content).digest()


@pytest_twisted.ensureDeferred
async def test_five_megabytes_are_read_as_they_come(serve, client):
    here = serve({"max_body": 10 * MEGABYTE})
    content = random.Random(SEED).randbytes(5 * MEGABYTE)
    response = await client.put(here.url("/measure"), data=BytesIO(content))
    assert await treq.text_content(response) == hashlib.sha256(content).hexdigest()


@pytest_twisted.ensureDeferred
async def test_a_responder_that_raises_costs_its_request_alone_and_one_line_in_the_log(serve, client):
    here = serve()
    here.events.expected = 1
    for path, status in (("/boom", 500), ("/hello", 200)):
        response = await client.get(here.url(path))
        await treq.content(response)
        assert response.code == status
    assert here.served.listener.accepted == 1
    [failure] = here.events.failures
    assert isinstance(failure, ZeroDivisionError)


@pytest_twisted.ensureDeferred
async def test_a_thousand_pipelined_requests_are_answered_in_order(serve):
    here = serve({"max_requests": 0})
    peer = here.connect()
    await peer.send(get("/hello") * 999 + get("/hello", "Connection: close"))
    answers = everything(await peer.rest())
    assert len(answers) == 1000
    assert {answer.status for answer in answers} == {200}


@pytest_twisted.ensureDeferred
async def test_a_connection_is_handed_over_with_what_came_behind_the_offer(serve):
    here = serve()
    peer = here.connect()
    offer = get("/shout", "Connection: Upgrade", "Upgrade: shout")
    await peer.send(offer + b"hello")
    assert (await peer.read(len(offer) + 5)).endswith(b"\r\n\r\nHELLO")
    await peer.send(b"more")
    assert await peer.read(4) == b"MORE"


@pytest_twisted.ensureDeferred
async def test_an_offer_with_content_that_nobody_takes_costs_nothing(serve):
    here = serve()
    peer = here.connect()
    await peer.send(post("/mirror", b"content", "Connection: Upgrade", "Upgrade: h2c"))
    await peer.send(get("/hello", "Connection: close"))
    assert [answer.body for answer in everything(await peer.rest())] == [b"content", b"Hello, World!"]


# Clients that leave


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /hello HT",
        message("POST", "/measure", "Content-Length: 100000") + b"x" * 5000,
        message("POST", "/mirror", "Transfer-Encoding: chunked") + chunk(b"x" * 5000),
        message("POST", "/hello", "Content-Length: 1000") + b"x",
        get("/wait"),
        get("/wait") + get("/hello") + post("/measure", b"abc"),
        get("/hello"),
        get("/stream"),
        get("/big"),
    ],
)
@pytest.mark.parametrize("how", ["reset", "close"])
@pytest_twisted.ensureDeferred
async def test_a_client_may_leave_at_any_time(serve, sent, how):
    """One that closes may have closed its side only: sending what it asked for shows whether it is still there."""
    here = serve()
    peer = here.connect()
    await peer.send(sent)
    await until(lambda: here.served.listener.accepted == 1, "the connection")
    await until(lambda: not sent or here.connections[0].bytes_in == len(sent), "the request")
    getattr(peer, how)()
    here.served.peers.clear()
    if how == "close" and here.gates:
        await until(lambda: here.connections[0].socket_transport.peer_closed, "the client's end")
        here.gates[0].callback(None)
    await until(lambda: not here.connections, "the end of the connection")
    assert here.ledger.open == 0
    assert here.ended == {get("/stream"): ["stream"]}.get(sent, ["wait"] if b"/wait" in sent else [])


@pytest_twisted.ensureDeferred
async def test_a_reset_in_the_middle_of_a_response_ends_its_stream(serve):
    here = serve()
    peer = here.connect()
    await peer.send(get("/stream"))
    assert b"200 OK" in await peer.some()
    peer.reset()
    here.served.peers.clear()
    await until(lambda: here.ended, "the end of the stream")
    [(path, status, sent, error)] = here.ledger.ends
    assert (path, status) == ("/stream", 200)
    assert sent > 0
    assert error is not None


@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_its_side_gets_the_whole_of_its_answer(serve):
    here = serve()
    peer = here.connect(receive_buffer=8192)
    await peer.send(get("/hello") + get("/big"))
    peer.finish()
    answers = everything(await peer.rest())
    assert [len(answer.body) for answer in answers] == [13, 5 * MEGABYTE]
    await here.served.ended("peer_done")


@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_its_side_in_the_middle_of_its_content_is_cut(serve):
    here = serve()
    peer = here.connect()
    await peer.send(message("POST", "/measure", "Content-Length: 10") + b"x")
    peer.finish()
    assert await peer.rest() == b""
    await here.served.ended("peer_aborted")


# Clients that do not read, or not fast


@pytest_twisted.ensureDeferred
async def test_little_is_held_for_a_client_that_reads_slowly(serve):
    here = serve({}, write_buffer=2 * PIECE)
    peer = here.connect(receive_buffer=8192)
    await peer.send(get("/stream"))
    await until(lambda: here.connections and here.connections[0].socket_transport.unsent, "a full buffer")
    most, read = 0, 0
    while read < 10 * MEGABYTE:
        read += len(await peer.some())
        most = max(most, here.connections[0].socket_transport.unsent)
        await pause(0)
    assert most <= 3 * PIECE + 16
    before = here.streamed
    await pause(0.05)
    assert here.streamed - before < 100, "it stops when the client does"


@pytest_twisted.ensureDeferred
async def test_little_is_held_for_a_client_that_sends_and_does_not_read(serve):
    here = serve({"max_body": 100 * MEGABYTE}, write_buffer=PIECE)
    peer = here.connect(receive_buffer=8192)
    await peer.send(message("POST", "/mirror", f"Content-Length: {100 * MEGABYTE}"))
    sent = quiet = 0
    while quiet < 50:
        try:
            sent += peer.socket.send(b"x" * PIECE)
            quiet = 0
        except BlockingIOError:
            quiet += 1
        await pause()
    transport = here.connections[0].socket_transport
    assert transport.unsent <= 3 * PIECE
    assert transport.bytes_in - transport.bytes_out <= 6 * PIECE
    assert sent < 50 * MEGABYTE, "the client is stopped"


@pytest.mark.parametrize("path", ["/stream", "/big"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_at_all_is_cut(serve, path):
    here = serve({}, write_timeout=0.3, write_buffer=PIECE)
    peer = here.connect(receive_buffer=8192)
    await peer.send(get(path))
    await here.served.ended("policy_deadline")
    assert here.ended == (["stream"] if path == "/stream" else [])


@pytest_twisted.ensureDeferred
async def test_a_client_that_pipelines_and_does_not_read_is_stopped_and_cut(serve):
    here = serve({"max_requests": 0}, write_timeout=0.3, write_buffer=PIECE)
    peer = here.connect(receive_buffer=8192)
    await peer.send(get("/big") * 100)
    await until(lambda: here.connections and here.connections[0].socket_transport.unsent, "a full buffer")
    assert here.ledger.begun == 1, "no further answer is begun"
    await here.served.ended("policy_deadline")


# Clients that do not send, or not fast


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"", []),
        (b"GET /hello HTTP/1.1\r\n", [408]),
        (get("/hello"), [200]),
        (get("/hello") + b"GET", [200, 408]),
        (message("POST", "/measure", "Content-Length: 10") + b"x", [408]),
        (message("POST", "/measure", "Content-Length: 10", "Expect: 100-continue"), [100, 408]),
        (message("POST", "/hello", "Content-Length: 10") + b"x", [200]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_client_that_falls_silent_is_closed(serve, sent, statuses):
    here = serve({"header_timeout": 0.2, "keepalive_timeout": 0.2, "body_timeout": 0.2, "linger": 0.2})
    peer = here.connect()
    await peer.send(sent)
    assert [answer.status for answer in everything(await peer.rest())] == statuses
    await here.served.ended("policy_deadline")


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_close_its_side_is_not_waited_for_long(serve):
    here = serve({"linger": 0.2})
    peer = here.connect()
    await peer.send(get("/hello", "Connection: close"))
    assert everything(await peer.rest())[0].status == 200
    await until(lambda: not here.connections, "the end of the connection")


# Answers before the end of the content: a reset must not destroy them (RFC 9112 §9.6)


@pytest.mark.parametrize("expected", [("/hello", {}, 200), ("/measure", {"max_body": MEGABYTE}, 413)])
@pytest_twisted.ensureDeferred
async def test_a_client_that_sends_on_can_still_read_its_early_answer(serve, expected):
    path, policy, status = expected
    here = serve(policy)
    peer = here.connect()
    await peer.send(message("PUT", path, "Transfer-Encoding: chunked"))
    for _ in range(80):
        await peer.send(chunk(b"x" * PIECE))
    peer.finish()
    answers = read_answers(await peer.rest())
    assert [answer.status for answer in answers] == [status]
    assert answers[0].whole


@pytest_twisted.ensureDeferred
async def test_a_refused_client_can_read_why_though_it_sends_on(serve):
    here = serve()
    peer = here.connect()
    await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + b"x" * 5 * MEGABYTE)
    peer.finish()
    assert [answer.status for answer in everything(await peer.rest())] == [400]
    await here.served.ended("protocol_violation")


# TLS


@pytest.fixture
def tls():
    issued = certificates().server("a.example")
    return TlsStore(TlsPolicy(certificate=str(issued.certificate), key=str(issued.key)))


@pytest.fixture
def trusting():
    return client_context()


@pytest_twisted.ensureDeferred
async def test_tls_delivers_the_whole_answer_before_its_goodbye(serve, tls, trusting):
    here = serve({}, context=tls)
    peer = await here.served.shake_hands(trusting)
    await peer.send(get("/big", "Connection: close"))
    [answer] = everything(await peer.read(100 * MEGABYTE))
    assert len(answer.body) == 5 * MEGABYTE
    await peer.goodbye()
    await until(lambda: not here.connections, "the end of the connection")


@pytest_twisted.ensureDeferred
async def test_tls_lets_a_client_that_sends_on_read_its_early_answer(serve, tls, trusting):
    here = serve({"max_body": MEGABYTE}, context=tls)
    peer = await here.served.shake_hands(trusting)
    await peer.send(message("PUT", "/measure", "Transfer-Encoding: chunked"))
    for _ in range(40):
        await peer.send(chunk(b"x" * PIECE))
    [answer] = everything(await peer.read(100 * MEGABYTE))
    assert answer.status == 413
    await until(lambda: not here.connections, "the end of the connection")


@pytest_twisted.ensureDeferred
async def test_tls_keeps_connections_and_streams_both_ways(serve, tls, trusting):
    here = serve({}, context=tls, write_buffer=PIECE)
    peer = await here.served.shake_hands(trusting)
    for _ in range(3):
        content = b"x" * 300_000
        await peer.send(post("/mirror", content, "Expect: 100-continue"))
        data = b""
        while not (answers := [one for one in read_answers(data) if one.status == 200]) or not answers[0].whole:
            data += await peer.read(1)
            data += await peer._do(peer.tls.read, PIECE)
        assert answers[0].body == content


@pytest_twisted.ensureDeferred
async def test_tls_that_is_cut_off_leaves_nothing(serve, tls, trusting):
    here = serve({}, context=tls)
    for path in ("/wait", "/stream"):
        peer = await here.served.shake_hands(trusting)
        await peer.send(get(path))
        await until(lambda: here.ledger.open, "the request")
        peer.peer.reset()
        await until(lambda: not here.connections, "the end of the connection")
    here.served.peers.clear()
    assert here.ended == ["wait", "stream"]


# Stopping


@pytest_twisted.ensureDeferred
async def test_draining_answers_what_was_accepted_and_closes(serve):
    here = serve({"linger": 0.1})
    idle, busy = here.connect(), here.connect()
    await idle.send(get("/hello"))
    await idle.read(50)
    await busy.send(get("/wait") + get("/hello"))
    await until(lambda: here.gates, "the request")
    here.served.listener.drain()
    await until(lambda: idle.is_closed or len(here.connections) == 1, "the end of the idle one")
    here.gates[0].callback(None)
    answers = everything(await busy.rest())
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[-1].closes


@pytest_twisted.ensureDeferred
async def test_stopping_cuts_what_is_under_way_and_books_it(serve):
    here = serve()
    for path in ("/wait", "/stream"):
        await here.connect().send(get(path))
    await until(lambda: here.ledger.begun == 2, "both requests")
    await here.served.listener.stopService()
    await here.served.ended("policy_drain", "policy_drain")
    assert here.ledger.open == 0
    assert sorted(here.ended) == ["stream", "wait"]
