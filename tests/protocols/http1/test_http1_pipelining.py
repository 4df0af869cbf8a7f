"""Pipelined requests: in order, one in flight, a bounded number waiting (RFC 9112 §9.3.2)."""

import pytest
from twisted.internet.defer import Deferred, succeed

from netapp.http import Response
from netapp.protocols.http1 import receiver
from tests.support.http import Desk, Ledger, Site, chunked, echo, get, hello, message, post


def test_responses_come_in_the_order_of_the_requests():
    client = Site(hello).connect()
    client.send(b"".join(get(f"/{number}") for number in range(10)))
    assert client.bodies == [f"/{number}".encode() for number in range(10)]


def test_one_request_is_in_flight_at_a_time():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get("/a") + get("/b"))
    assert [request.path for request in desk.requests] == ["/a"]
    desk.answer()
    assert [request.path for request in desk.requests] == ["/a", "/b"]


def test_with_sixteen_requests_waiting_the_client_is_no_longer_read_from():
    desk = Desk()
    client = Site(desk).connect()
    client.send(*[get(f"/{number}") for number in range(17)])  # one in flight, sixteen waiting
    assert not client.wire.reading
    client.send(get("/late"))
    assert len(desk.requests) == 1


def test_reading_goes_on_when_one_of_sixteen_is_taken_up():
    desk = Desk()
    client = Site(desk).connect()
    client.send(*[get(f"/{number}") for number in range(40)])
    answered = 0
    while desk.pending:
        desk.answer(desk.requests[answered].path)
        answered += 1
        client.turn()
    assert client.bodies == [f"/{number}".encode() for number in range(40)]
    assert client.wire.reading


def test_reading_goes_on_when_only_one_may_wait():
    desk = Desk()
    client = Site(desk, max_pipelined=1).connect()
    client.send(*[get(f"/{number}") for number in range(6)])
    for _ in range(6):
        desk.answer()
        client.turn()
    assert len(client.answers()) == 6
    assert client.wire.reading


def test_slow_and_quick_answers_keep_their_places():
    slow = Deferred()
    client = Site(lambda request: slow if request.path == "/slow" else hello(request)).connect()
    client.send(get("/slow") + get("/quick"))
    assert not client.answers()
    slow.callback(Response.text("slow"))
    assert client.bodies == [b"slow", b"/quick"]


def test_two_thousand_requests_in_one_read_are_answered_without_recursion():
    client = Site(hello, max_requests=0).connect()
    client.protocol.dataReceived(get() * 2000)
    assert len(client.answers()) == 2000


def test_of_two_thousand_requests_in_one_read_few_are_held_at_a_time():
    """Each is many times its size once it is parsed."""
    desk = Desk()
    client = Site(desk, max_requests=0).connect()
    requests = b"".join(get(f"/{number}") for number in range(2000))
    client.protocol.dataReceived(requests)
    answered, most = 0, 0
    while desk.pending:
        most = max(most, len(client.protocol._queue))
        desk.answer(desk.requests[answered].path)
        answered += 1
    assert client.bodies == [f"/{number}".encode() for number in range(2000)]
    assert most < 16 + 16 * 1024 / len(get("/0"))
    assert client.wire.reading


@pytest.mark.parametrize(
    "begun", [post("/", b"content"), message("POST", "/", "Transfer-Encoding: chunked") + b"0\r\n\r\n"]
)
def test_nor_are_they_when_the_end_of_some_content_stands_before_them(begun):
    desk = Desk()
    client = Site(desk).connect()
    client.protocol.dataReceived(begun[:-5])
    client.protocol.dataReceived(begun[-5:] + get("/") * 1400)
    assert len(client.protocol._queue) < 700


def test_an_idle_connection_does_not_keep_its_last_request():
    client = Site(hello).connect()
    client.send(get("/" + "t" * 8000, *[f"X-{number}: {'v' * 3000}" for number in range(10)]))
    assert client.statuses == [200]
    assert not client.protocol._headers
    assert not client.protocol._target


def test_content_that_is_parted_from_its_request_by_a_full_queue_is_read_in_time(monkeypatch):
    monkeypatch.setattr(receiver, "SLICE", 50)
    desk = Desk()
    client = Site(
        lambda request: desk(request) if request.method == "GET" else echo(request), max_pipelined=2
    ).connect()
    client.protocol.dataReceived((get("/") + post("/", b"content" * 10, "X: y")) * 10 + get("/"))
    while desk.pending:
        desk.answer("slow")
        client.turn()
    assert client.bodies == [b"slow", b"content" * 10] * 10 + [b"slow"]
    assert client.wire.reading


def test_an_offer_behind_a_full_queue_is_considered_before_what_follows_it(monkeypatch):
    monkeypatch.setattr(receiver, "SLICE", 50)
    desk = Desk()
    client = Site(desk, max_pipelined=2).connect()
    client.protocol.dataReceived(get("/a") * 5 + get("/", "Connection: Upgrade", "Upgrade: h2c") + get("/b") * 100)
    while len(desk.requests) < 6:
        desk.answer()
    assert not client.protocol._queue, "what follows the offer is not parsed"
    while desk.pending:
        desk.answer()
    assert len(client.answers()) == 106


def test_two_thousand_requests_to_coroutines_that_never_wait_are_answered_without_recursion():
    async def at_once(_):
        return Response.text("now")

    client = Site(at_once, max_requests=0).connect()
    client.protocol.dataReceived(get() * 2000)
    assert len(client.answers()) == 2000


def test_two_thousand_requests_answered_by_deferreds_one_after_the_other_do_not_recurse():
    desk = Desk()
    client = Site(desk, max_requests=0).connect()
    client.protocol.dataReceived(get() * 2000)
    while desk.pending:
        desk.answer()
    assert len(client.answers()) == 2000


def test_two_thousand_streamed_answers_to_one_read_do_not_recurse():
    client = Site(lambda _: Response(200, iter([b"a", b"b"])), max_requests=0).connect()
    client.protocol.dataReceived(get() * 2000)
    assert client.bodies == [b"ab"] * 2000


def test_two_thousand_offered_upgrades_in_one_read_do_not_recurse():
    client = Site(hello, max_requests=0).connect()
    client.protocol.dataReceived(get("/", "Upgrade: h2c", "Connection: Upgrade") * 2000)
    client.turn()
    assert len(client.answers()) == 2000


def test_two_thousand_offered_upgrades_to_fired_deferreds_do_not_recurse():
    client = Site(lambda _: succeed(Response.text("ok")), max_requests=0).connect()
    client.protocol.dataReceived(get("/", "Upgrade: h2c", "Connection: Upgrade") * 2000)
    client.turn()
    assert len(client.answers()) == 2000


def test_no_request_is_begun_while_the_client_does_not_read():
    ledger = Ledger(lambda _: Response(200, b"x" * 1000))
    client = Site(ledger).connect(room=0, mark=4000)
    client.send(*[get()] * 30)
    assert ledger.begun == 4, "the one whose answer went over the mark is the last"
    assert client.wire.unsent < 4000 + 2000
    for _ in range(10):
        client.take(6000)
    assert ledger.begun == 30
    client.take()
    assert len(client.answers()) == 30


def test_the_content_of_a_waiting_request_is_held_until_its_turn():
    desk = Desk()
    first = []

    def responder(request):
        if not first:
            first.append(request)
            return desk(request)
        return echo(request)

    client = Site(responder).connect()
    client.send(get("/a") + post("/b", b"content") + get("/c"))
    desk.answer("a")
    client.turn()
    assert client.bodies == [b"a", b"content", b""]


def test_methods_with_and_without_content_follow_each_other():
    client = Site(echo).connect()
    client.send(post("/", b"1") + get() + chunked("/", [b"2", b"3"]) + message("DELETE", "/") + post("/", b""))
    assert client.bodies == [b"1", b"", b"23", b"", b""]


def test_an_error_is_queued_behind_the_answers_to_what_came_before_it():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get("/a") + b"nonsense\r\n\r\n")
    assert not client.answers()
    desk.answer("a")
    client.turn()
    assert client.statuses == [200, 501]
    assert client.half_closed


def test_requests_behind_an_error_are_not_answered():
    ledger = Ledger(hello)
    client = Site(ledger).connect()
    client.send(b"GET / HTTP/1.1\r\n\r\n" + get("/b"))
    assert client.statuses == [400]
    assert ledger.begun == 0
