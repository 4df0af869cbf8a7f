"""Handing a connection over, and going on with HTTP/1 where the offer is not taken (RFC 9110 §7.8)."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol

from netapp.errors import End
from netapp.http import Response, Upgrade
from netapp.protocols.websocket import EchoService, websocket_responder
from tests.support.http import Desk, Ledger, Site, chunked, echo, get, hello, message, post

OFFER = ("Connection: Upgrade", "Upgrade: h2c")


class Successor(Protocol):
    """What a connection is handed over to."""

    def __init__(self):
        self.data = b""

    def dataReceived(self, data):
        self.data += data


class Taker:
    """A responder that takes every upgrade."""

    def __init__(self, make=Successor):
        self.made = []
        self._make = make

    def __call__(self, request):
        return Upgrade(self.build)

    def build(self, request):
        self.made.append(self._make())
        return self.made[-1]


def carry(client):
    """The transport delivers to its ``protocol``, which is what is replaced."""
    client.wire.protocol = client.protocol
    return client


def test_an_upgrade_hands_the_connection_over_with_the_requests_own_bytes():
    taker = Taker()
    site = Site(Ledger(taker))
    client = carry(site.connect())
    client.send(get("/chat?a=b", *OFFER))
    [successor] = taker.made
    assert successor.transport is client.wire
    assert client.wire.protocol is successor
    assert successor.data.startswith(b"GET /chat?a=b HTTP/1.1\r\nhost: example.com\r\n")
    assert successor.data.endswith(b"\r\n\r\n")
    assert client.wire.sent == b""
    assert client.wire.producer is None
    assert client.wire.reading
    assert site.held == 0


def test_what_came_behind_the_request_goes_to_the_successor():
    taker = Taker()
    client = carry(Site(taker).connect())
    client.send(get("/", *OFFER) + b"not HTTP \x00")
    assert taker.made[0].data.endswith(b"\r\n\r\nnot HTTP \x00")


def test_what_came_behind_the_request_while_the_responder_thought_goes_to_the_successor():
    gate = Deferred()
    taker = Taker()
    client = carry(Site(lambda _: gate).connect())
    client.send(get("/", *OFFER) + b"one")
    assert not client.wire.reading, "who knows which protocol comes next"
    client.protocol.dataReceived(b" two")  # a TLS transport may still hold something
    gate.callback(taker(None))
    assert taker.made[0].data.endswith(b"\r\n\r\none two")
    assert client.wire.reading


def test_an_upgrade_is_finished_with_101():
    ledger = Ledger(Taker())
    client = carry(Site(ledger).connect())
    client.send(get("/", *OFFER))
    assert ledger.ends == [("/", 101, 0, None)]


def test_a_successor_that_stops_reading_is_not_overruled():
    class Full(Successor):
        def dataReceived(self, data):
            self.transport.pauseProducing()

    client = carry(Site(Taker(Full)).connect())
    client.send(get("/", *OFFER))
    assert not client.wire.reading


def test_an_upgrade_waits_for_the_answers_before_it():
    desk = Desk()
    taker = Taker()
    client = carry(Site(lambda request: desk(request) if request.path == "/a" else taker(request)).connect())
    client.send(get("/a") + get("/b", *OFFER) + b"rest")
    assert not taker.made
    desk.answer()
    assert taker.made[0].data.endswith(b"rest")
    assert client.statuses == [200]


@pytest.mark.parametrize("responder", [hello, lambda request: succeed(hello(request))])
def test_an_offer_that_is_not_taken_costs_nothing(responder):
    """As curl offers h2c with every request, when it is asked to."""
    client = Site(responder).connect()
    client.send(get("/a", *OFFER), get("/b", *OFFER), get("/c"))
    assert client.bodies == [b"/a", b"/b", b"/c"]
    assert client.wire.reading


@pytest.mark.parametrize("kind", ["length", "chunked", "empty"])
@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("responder", [echo, hello])
def test_an_offer_with_content_costs_nothing(kind, size, responder):
    client = Site(responder).connect()
    one = {
        "length": post("/", b"content", *OFFER),
        "chunked": chunked("/", [b"content"], *OFFER),
        "empty": post("/", b"", *OFFER),
    }[kind]
    data = one + one + get("/")
    client.send(*[data[at : at + size] for at in range(0, len(data), size)])
    client.turn()
    if kind == "chunked" and responder is hello and size == 1:
        assert client.answer().closes
    else:
        assert len(client.answers()) == 3
        assert client.wire.reading
        client.send(get("/later"))
        assert len(client.answers()) == 4


@pytest.mark.parametrize("responder", [hello, echo])
def test_the_content_of_a_request_that_offers_an_upgrade_is_never_taken_for_a_request(responder):
    """Llhttp would hand it back as what follows the request."""
    ledger = Ledger(responder)
    smuggled = get("/smuggled")
    for one in (post("/", smuggled, *OFFER), chunked("/", [smuggled], *OFFER)):
        client = Site(ledger).connect()
        client.send(one)
        assert len(client.answers()) == 1
        assert client.statuses == [200]
    assert ledger.begun == 2


def test_content_behind_an_offer_is_held_to_the_limits():
    site = Site(echo, max_body=100)
    client = site.connect()
    client.send(chunked("/", [b"x" * 101], *OFFER))
    assert client.statuses == [413]
    client = site.connect()
    client.send(message("POST", "/", "Content-Length: 10", *OFFER) + b"x")
    client.wait(32)
    assert client.statuses == [408]


def test_a_request_with_content_may_offer_an_upgrade_and_expect_to_continue():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 3", "Expect: 100-continue", *OFFER), b"abc" + get("/"))
    assert client.statuses == [100, 200, 200]
    assert client.answers()[1].body == b"abc"


def test_requests_pipelined_behind_an_offer_that_is_not_taken_are_answered():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get("/a", *OFFER) + get("/b") + get("/c", *OFFER) + post("/d", b"x"))
    for text in "abcd":
        desk.answer(text)
        client.turn()
    assert client.bodies == [b"a", b"b", b"c", b"d"]


def test_a_request_that_arrives_in_part_behind_an_offer_is_still_held_to_its_time():
    client = Site(hello).connect()
    client.send(get("/a", *OFFER) + b"GET /b HT")
    client.wait(11)
    assert client.statuses == [200, 408]


def test_what_comes_after_an_offer_has_its_own_deadline():
    client = Site(hello).connect()
    client.send(get("/a", *OFFER))
    client.wait(74)
    assert not client.half_closed
    client.wait(2)
    assert client.half_closed


def test_an_upgrade_that_the_client_did_not_offer_is_answered_with_426():
    """RFC 9110 §15.5.22: and it says which protocol it is about."""
    client = Site(Taker()).connect()
    client.send(get("/"))
    answer = client.answer()
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert answer.headers["connection"].lower() == "upgrade"
    assert not client.half_closed
    client.send(get("/"))
    assert client.statuses == [426, 426]


def test_426_of_a_connection_that_closes_says_both():
    client = Site(Taker()).connect()
    client.send(get("/", "Connection: close"))
    assert client.answer().headers["connection"].lower() == "close, upgrade"
    assert client.half_closed


def test_a_websocket_endpoint_tells_who_asks_for_something_else():
    site = Site(hello)
    site.factory.responder = websocket_responder(EchoService(), clock=site.clock, timers=site.timers)
    client = site.connect()
    client.send(get("/"))
    assert client.answer().status == 426
    assert client.answer().headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    "request_",
    [
        message("GET", "/", "Connection: Upgrade, keep-alive", "Upgrade: h2c", version="1.0"),
        message("GET", "/", "Upgrade: h2c"),
        message("GET", "/", "Connection: Upgrade"),
        post("/", b"content", *OFFER),
        chunked("/", [b"content"], *OFFER),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_an_upgrade_needs_http_1_1_both_fields_and_a_request_without_content(request_, size):
    """Content would have to be read before the other protocol begins: nobody needs it, and it is easily done wrong."""
    taker = Taker()

    async def responder(request):
        await request.body.read()
        return taker(request)

    client = carry(Site(responder).connect())
    client.send(*[request_[at : at + size] for at in range(0, len(request_), size)])
    assert client.statuses == [426]
    assert not taker.made


def test_an_answer_to_a_request_with_content_does_not_take_the_next_ones_offer():
    desk = Desk()
    taker = Taker()
    client = carry(Site(desk).connect())
    client.send(post("/", b"content", *OFFER) + get("/", *OFFER))
    desk.pending.pop(0).callback(taker(None))
    assert client.statuses == [426]
    assert not taker.made
    desk.pending.pop(0).callback(taker(None))
    assert len(taker.made) == 1


def test_a_successor_that_cannot_be_built_is_an_error_of_its_request_alone(complaints):
    def build():
        raise RuntimeError("boom")

    for responder in (Taker(build), lambda request: succeed(Upgrade(lambda _: 1 / 0))):
        ledger = Ledger(responder)
        client = carry(Site(ledger).connect())
        client.send(get("/", *OFFER) + get("/"))
        assert client.statuses == [500, 426]
        assert ledger.open == 0
        assert client.wire.reading
    assert len(complaints) == 2


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("where", ["makeConnection", "dataReceived"])
def test_a_successor_that_fails_at_once_costs_its_connection(where, later, complaints):
    class Broken(Successor):
        pass

    def fail(*_):
        raise RuntimeError("boom")

    setattr(Broken, where, fail)
    taker = Taker(Broken)
    ledger = Ledger(lambda request: succeed(taker(request)) if later else taker(request))
    client = carry(Site(ledger).connect())
    client.send(get("/", *OFFER))
    assert client.wire.aborting
    assert client.wire.sent == b""
    assert ledger.open == 0
    assert client.protocol.ending.end is End.INTERNAL
    assert len(complaints) == 1


def test_a_transport_that_cannot_be_handed_over_is_cut(complaints):
    ledger = Ledger(Taker())
    client = Site(ledger).connect()
    client.wire.protocol = object()
    client.send(get("/", *OFFER))
    assert client.gone
    assert ledger.open == 0
    assert len(complaints) == 1


def test_a_connection_that_is_closed_does_not_read_what_is_behind_an_offer():
    client = Site(lambda _: Response.text("bye")).connect()
    client.send(get("/", "Connection: Upgrade, close", "Upgrade: h2c") + get("/b"))
    assert client.bodies == [b"bye"]
    assert client.half_closed


def test_a_client_that_leaves_while_its_offer_is_considered_is_forgotten():
    gate = Deferred()
    taker = Taker()
    ledger = Ledger(lambda _: gate)
    client = carry(Site(ledger).connect())
    client.send(get("/", *OFFER))
    client.lose()
    assert ledger.open == 0
    assert not taker.made
