"""Responders that fail, clients that leave, and the books that balance in every way of ending."""

from contextlib import suppress

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost

from netapp.errors import DeadlineExceeded, Draining, End, PeerAborted
from netapp.http import Headers, HttpError, Response
from tests.support.http import Desk, Ledger, Site, chunk, echo, get, hello, message, post


async def raising(_):
    raise RuntimeError("boom")


async def returning_none(_):
    return None


def broken_generator(_):
    yield Response()


DEFECTS = {
    "raises": lambda _: 1 / 0,
    "returns None": lambda _: None,
    "returns bytes": lambda _: b"hello",
    "returns a generator": broken_generator,
    "is a coroutine that raises": raising,
    "is a coroutine that returns None": returning_none,
    "returns a Deferred that has failed": lambda _: fail(RuntimeError("boom")),
    "returns a Deferred of None": lambda _: succeed(None),
    "returns a status that is no number": lambda _: Response("200"),
    "returns a status of two digits": lambda _: Response(42),
    "returns a status of four digits": lambda _: Response(1200),
    "returns an interim status": lambda _: Response(103),
    "returns 101 without an upgrade": lambda _: Response(101),
    "returns fields that are no bytes": lambda _: Response(200, b"", Headers.from_raw([("a", "b")])),
    "returns text for a body": lambda _: Response(200, None),
}


def later(responder):
    return lambda request: succeed(None).addCallback(lambda _: responder(request))


LATER = {f"later {name}": later(defect) for name, defect in DEFECTS.items() if "coroutine" not in name}


@pytest.mark.parametrize("name", [*DEFECTS, *LATER])
def test_a_responder_with_a_defect_costs_its_request_alone(name, complaints):
    responder = {**DEFECTS, **LATER}[name]
    ledger = Ledger(lambda request: hello(request) if request.path == "/good" else responder(request))
    client = Site(ledger).connect()
    client.send(get("/bad") + get("/good"))
    assert client.statuses == [500, 200]
    assert client.bodies[1] == b"/good"
    assert ledger.ends[0][:2] == ("/bad", 500)
    assert ledger.open == 0
    assert len(complaints) == 1
    assert b"boom" not in client.wire.sent


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [(HttpError(404), 404), (DeadlineExceeded("route"), 504), (TimeoutError(), 504), (Draining(), 503)],
)
def test_an_error_with_a_meaning_is_answered_with_its_status_and_not_logged(error, status, later, complaints):
    def responder(_):
        if later:
            return fail(error)
        raise error

    client = Site(responder).connect()
    client.send(get())
    assert client.statuses == [status]
    assert not complaints
    assert not client.half_closed


@pytest.mark.parametrize("fields", [(("not", "bytes"),), 5, ("x",)])
@pytest.mark.parametrize("headers", [[], [("bad name", "x")], [("x", "bad\nvalue")]])
def test_an_error_whose_page_cannot_be_made_is_answered_with_a_plain_one(fields, headers, complaints):
    def responder(request):
        request.error_fields = fields
        raise HttpError(400, headers=headers)

    ledger = Ledger(responder)
    client = Site(ledger).connect()
    client.send(get() + get())
    assert client.statuses == [500, 500]
    assert ledger.open == 0
    assert complaints


@pytest.mark.parametrize("later", [False, True])
def test_a_finisher_that_fails_harms_neither_the_connection_nor_other_finishers(later, complaints):
    ledger = Ledger(hello)

    def responder(request):
        request.on_finish(lambda *_: 1 / 0)
        answer = ledger(request)
        return succeed(answer) if later else answer

    client = Site(responder).connect()
    client.send(get("/a") + get("/b"), get("/c"))
    assert client.bodies == [b"/a", b"/b", b"/c"]
    assert ledger.open == 0
    assert len(complaints) == 3
    client.wait(80)
    assert client.half_closed


def test_a_finisher_that_fails_when_the_client_leaves_does_not_keep_the_others_from_being_told(complaints):
    desk = Desk()
    ledger = Ledger(desk)

    def responder(request):
        request.on_finish(lambda *_: 1 / 0)
        return ledger(request)

    client = Site(responder).connect()
    client.send(get())
    client.lose()
    assert ledger.open == 0
    assert len(desk.cancelled) == 1
    assert len(complaints) == 1


# clients that leave


def test_a_client_that_leaves_cancels_the_responder():
    desk = Desk()
    ledger = Ledger(desk)
    site = Site(ledger)
    client = site.connect()
    client.send(get("/a") + get("/b"))
    client.lose()
    assert desk.cancelled == desk.pending[:1]
    assert ledger.begun == 1, "what only waited is never begun"
    assert not client.protocol._queue, "nor kept"
    assert [(path, status) for path, status, _, _ in ledger.ends] == [("/a", 0)]
    assert isinstance(ledger.ends[0][3], PeerAborted)
    assert site.held == 0


def test_a_client_that_leaves_cancels_a_coroutine_where_it_waits():
    ends = []

    async def responder(_):
        try:
            await Deferred()
        except CancelledError:
            ends.append("cancelled")
            raise

    client = Site(responder).connect()
    client.send(get())
    client.lose()
    assert ends == ["cancelled"]


def unstoppable(late):
    """A responder that takes no notice of being cancelled, and answers with what ``late`` brings."""

    async def responder(_):
        with suppress(CancelledError):
            await Deferred()
        return await late

    return responder


def test_a_responder_that_answers_after_its_client_has_left_is_ignored(complaints):
    late = Deferred()
    ledger = Ledger(unstoppable(late))
    client = Site(ledger).connect()
    client.send(get())
    client.lose()
    late.callback(Response.text("late"))
    assert client.wire.sent == b""
    assert len(ledger.ends) == 1
    assert not complaints


def test_a_responder_that_fails_after_its_client_has_left_is_logged(complaints):
    late = Deferred()
    client = Site(unstoppable(late)).connect()
    client.send(get())
    client.lose()
    assert not complaints
    late.errback(RuntimeError("boom"))
    assert len(complaints) == 1


@pytest.mark.parametrize("error", [HttpError(400), PeerAborted("gone")])
def test_a_responder_that_fails_because_its_client_has_left_is_not_logged(error, complaints):
    client = Site(lambda _: Deferred(lambda deferred: deferred.errback(error))).connect()
    client.send(get())
    client.lose()
    assert not complaints


def test_a_responder_whose_cancellation_fails_is_logged_and_its_request_finished(complaints):
    ledger = Ledger(lambda _: Deferred(lambda _: 1 / 0))
    client = Site(ledger).connect()
    client.send(get())
    client.lose()
    assert ledger.open == 0
    assert len(complaints) == 1


def test_a_client_that_leaves_fails_the_reading_of_its_content():
    errors = []

    async def responder(request):
        try:
            await request.body.read()
        except PeerAborted as error:
            errors.append(error)
            raise

    ledger = Ledger(responder)
    client = Site(ledger).connect()
    client.send(message("POST", "/", "Content-Length: 10") + b"abc")
    client.lose()
    assert len(errors) == 1
    assert ledger.open == 0


@pytest.mark.parametrize("sent", [b"GET / HT", get("/wait"), message("POST", "/", "Content-Length: 3")])
def test_a_client_that_closes_in_the_middle_of_something_has_aborted(sent):
    """As with TLS, whose goodbye is for both directions."""
    client = Site(Desk()).connect()
    client.send(sent)
    client.lose(ConnectionDone())
    assert client.protocol.ending.end is End.PEER_ABORTED


@pytest.mark.parametrize("error", [ConnectionLost(), ConnectionAborted()])
def test_what_else_a_connection_is_lost_by_is_its_transports_to_say(error):
    """A reset, or a deadline of the transport's own."""
    client = Site(Desk()).connect()
    client.send(get())
    client.lose(error)
    assert client.protocol.ending is None


def test_a_client_that_leaves_between_requests_has_done_nothing_wrong():
    client = Site(hello).connect()
    client.send(get())
    client.lose()
    assert client.protocol.ending is None


def test_a_client_that_leaves_after_its_last_answer_has_done_nothing_wrong():
    client = Site(hello).connect()
    client.send(get("/", "Connection: close") + get("/b"))
    client.lose()
    assert client.protocol.ending is None


# half-closing


def test_a_client_that_closes_its_side_still_gets_its_answers():
    desk = Desk()
    ledger = Ledger(desk)
    client = Site(ledger).connect()
    client.send(get("/a") + get("/b"))
    client.close()
    assert not client.gone
    desk.answer("a")
    desk.answer("b")
    client.turn()
    assert client.bodies == [b"a", b"b"]
    assert client.answers()[-1].closes
    assert client.gone
    assert "abort" not in client.wire.log
    assert ledger.open == 0


def test_a_client_that_closes_its_side_while_nothing_is_under_way_is_closed():
    client = Site(hello).connect()
    client.send(get())
    client.close()
    assert client.gone
    assert client.protocol.ending is None


def test_a_client_that_closes_its_side_in_the_middle_of_a_head_has_aborted():
    client = Site(hello).connect()
    client.send(b"GET / HT")
    client.close()
    assert client.gone
    assert client.wire.sent == b""
    assert client.protocol.ending.end is End.PEER_ABORTED


def test_a_client_that_closes_its_side_behind_a_request_and_a_half_gets_the_one_answer():
    client = Site(hello).connect()
    client.send(get("/a") + b"GET /b")
    client.close()
    assert client.bodies == [b"/a"]
    assert client.gone


def test_a_client_that_closes_its_side_in_the_middle_of_content_is_cut():
    """RFC 9112 §8: the request is incomplete."""
    ledger = Ledger(echo)
    client = Site(ledger).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc"))
    client.close()
    assert client.gone
    assert client.wire.sent == b""
    assert ledger.open == 0
    assert client.protocol.ending.end is End.PEER_ABORTED


def test_a_client_that_closes_its_side_in_the_last_chunk_is_cut():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc") + b"0\r\n")
    client.close()
    assert client.gone
    assert client.wire.sent == b""


def test_a_request_that_is_cut_does_not_take_the_ones_before_it_along():
    desk = Desk()
    ledger = Ledger(desk)
    client = Site(ledger).connect()
    client.send(get("/a") + get("/b") + message("POST", "/c", "Content-Length: 10") + b"abc")
    client.close()
    desk.answer("a")
    desk.answer("b")
    client.turn()
    assert client.bodies == [b"a", b"b"]
    assert client.answers()[-1].closes
    assert client.gone
    assert ledger.begun == 2
    assert ledger.open == 0
    assert client.protocol.ending.end is End.PEER_ABORTED


def test_a_client_that_closes_its_side_in_the_middle_of_content_that_nobody_reads_has_its_answer():
    client = Site(hello).connect()
    client.send(message("POST", "/", "Content-Length: 10") + b"abc")
    client.close()
    assert client.answer().whole
    assert client.gone


def test_a_streaming_answer_goes_on_after_the_client_has_closed_its_side():
    gate = Deferred()

    async def pieces():
        yield b"one"
        await gate
        yield b"two"

    client = Site(lambda _: Response(200, pieces())).connect()
    client.send(get())
    client.close()
    gate.callback(None)
    client.turn()
    assert client.answer().body == b"onetwo"
    assert client.answer().whole
    assert client.gone


# once, in every way


def ways():
    """Every way in which a request can end: (responder, what happens to the client, the status that is booked)."""
    pending = Deferred
    return {
        "answered": (hello, lambda client: None, 200),
        "answered later": (lambda request: succeed(hello(request)), lambda client: None, 200),
        "failed": (lambda _: fail(HttpError(404)), lambda client: None, 404),
        "raised": (lambda _: (_ for _ in ()).throw(HttpError(403)), lambda client: None, 403),
        "streamed": (lambda _: Response(200, [b"x"]), lambda client: None, 200),
        "lost": (lambda _: pending(), lambda client: client.lose(), 0),
        "lost while streaming": (lambda _: Response(200, waiting()), lambda client: client.lose(), 200),
        "lost while streaming late": (lambda _: succeed(Response(200, waiting())), lambda client: client.lose(), 200),
        "lost while lingering": (lambda _: Response(200, b""), lambda client: (client.close(), client.turn()), 200),
        "drained": (lambda _: Response(200, [b"x"]), lambda client: client.protocol.drain(), 200),
        "cut": (lambda _: pending(), lambda client: client.wire.abortConnection(), 0),
    }


async def waiting():
    yield b"x"
    await Deferred()


@pytest.mark.parametrize("name", ways())
@pytest.mark.parametrize(
    "request_", [get("/"), get("/", "Connection: close"), post("/", b"x"), get("/", version="1.0")]
)
def test_a_request_is_finished_once_in_whatever_way_it_ends(name, request_):
    responder, happens, status = ways()[name]
    ledger = Ledger(responder)
    site = Site(ledger)
    client = site.connect()
    client.send(request_)
    happens(client)
    client.wait(100, step=0.5)
    assert client.gone
    assert [end[1] for end in ledger.ends] == [status]
    assert site.held == 0
    assert not site.clock.getDelayedCalls()


def test_a_defect_in_the_engines_own_callbacks_is_not_blamed_on_the_client():
    """A listener logs what dataReceived raises, and ends the connection."""

    class Broken:
        def __len__(self):
            raise MemoryError

    client = Site(hello).connect()
    client.protocol._factory.policy = None
    with pytest.raises(Exception, match="callback"):
        client.protocol.dataReceived(get())
    assert client.wire.sent == b""


def test_without_a_listener_the_peer_is_described_by_the_transport():
    peers = []
    site = Site(lambda request: peers.append(request.peer) or hello(request))
    client = site.connect()
    protocol = site.factory.buildProtocol(None)
    protocol.makeConnection(type(client.wire)())
    protocol.dataReceived(get())
    assert peers[0].id == "web-1"
    assert peers[0].listener == "web"
    assert peers[0].tls is None
