"""Deadlines: no connection lives for ever without progress, and no client gets more time by drip-feeding."""

import pytest
from twisted.internet.defer import Deferred

from netapp.errors import End
from netapp.http import Response
from tests.support.http import Desk, Ledger, Site, chunk, echo, get, hello, message, mirror, post


@pytest.fixture
def site():
    return Site(hello)


def test_a_connection_that_says_nothing_is_closed_in_silence(site):
    client = site.connect()
    client.wait(9.9)
    assert not client.half_closed
    client.wait(0.5)
    assert client.half_closed
    assert client.wire.sent == b""
    assert client.protocol.ending.end is End.POLICY_DEADLINE
    assert client.protocol.ending.rule == "header_timeout"


def test_a_header_section_that_does_not_end_is_answered_with_408(site):
    client = site.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
    client.wait(9.8)
    assert not client.answers()
    client.wait(0.5)
    assert client.statuses == [408]
    assert client.answer().closes
    assert client.half_closed
    assert client.protocol.ending.rule == "header_timeout"
    assert site.refused == {408: 1}


def test_drip_feeding_does_not_buy_time(site):
    client = site.connect()
    client.send(b"GET / HTTP/1.1\r\n")
    for _ in range(11):
        client.wait(1)
        if client.half_closed:
            break
        client.send(b"A: b\r\n")
    assert client.statuses == [408]


def test_drip_feeding_a_field_does_not_buy_time(site):
    client = site.connect()
    client.send(b"G")
    for byte in get("/", "A: " + "x" * 1000)[1:]:
        client.wait(1)
        if client.half_closed:
            break
        client.send(bytes([byte]))
    assert client.statuses == [408]
    assert site.clock.seconds() == pytest.approx(10, abs=1.1)


def test_a_later_request_has_as_much_time_as_the_first_counted_from_its_first_byte(site):
    client = site.connect()
    client.send(get("/a"))
    client.wait(60)
    client.send(b"GET /b HTTP/1.1\r\n")
    client.wait(9.8)
    assert client.statuses == [200]
    client.wait(0.5)
    assert client.statuses == [200, 408]


def test_a_request_that_begins_with_the_end_of_another_one_has_its_time(site):
    client = site.connect()
    whole = get("/a")
    client.send(whole[:10], whole[10:] + b"GET /b")
    client.wait(9.8)
    assert client.statuses == [200]
    client.wait(0.5)
    assert client.statuses == [200, 408]


def test_a_request_that_has_begun_behind_a_slow_answer_has_its_time_after_it():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get("/a") + b"GET /b")
    client.wait(100)
    assert not client.answers()
    desk.answer()
    client.wait(9.5)
    assert client.statuses == [200]
    client.wait(1)
    assert client.statuses == [200, 408]


def test_an_answer_under_way_is_not_disturbed_by_a_deadline():
    """A 408 must not come between a request and its answer."""
    desk = Desk()
    site = Site(desk)
    client = site.connect()
    client.send(b"GET /a ")
    client.wait(5)
    client.send(get("/a")[7:])
    client.wait(1000)
    assert not client.answers()
    desk.answer("slow")
    assert client.bodies == [b"slow"]
    assert not client.half_closed


def test_empty_lines_do_not_buy_time(site):
    client = site.connect()
    for _ in range(12):
        client.wait(1)
        if client.half_closed:
            break
        client.send(b"\r\n")
    assert client.half_closed
    assert site.clock.seconds() == pytest.approx(10, abs=1.1)


def test_an_idle_connection_is_closed_after_its_time(site):
    client = site.connect()
    client.send(get())
    client.wait(74.8)
    assert not client.half_closed
    client.wait(0.5)
    assert client.half_closed
    assert client.statuses == [200]
    assert client.protocol.ending.rule == "keepalive_timeout"


def test_each_request_gives_an_idle_connection_its_whole_time(site):
    client = site.connect()
    for _ in range(5):
        client.send(get())
        client.wait(70)
        assert not client.half_closed
    client.wait(6)
    assert client.half_closed


def test_an_idle_time_that_is_shorter_than_the_time_for_a_header_is_kept():
    client = Site(hello, header_timeout=60, keepalive_timeout=5).connect()
    client.send(get())
    client.wait(5.5)
    assert client.half_closed


def test_time_spent_on_an_answer_is_not_idle():
    desk = Desk()
    client = Site(desk).connect()
    client.send(get())
    client.wait(300)
    desk.answer()
    client.wait(74)
    assert not client.half_closed
    client.wait(2)
    assert client.half_closed


# content


def test_content_that_stands_still_is_answered_with_408():
    site = Site(echo)
    client = site.connect()
    client.send(message("POST", "/", "Content-Length: 100000") + b"x" * 50_000)
    client.wait(29)
    assert not client.answers()
    client.wait(3)
    assert client.statuses == [408]
    assert client.half_closed
    assert client.protocol.ending.rule == "body_timeout"
    assert site.refused == {408: 1}


def test_content_that_is_too_slow_is_answered_with_408():
    site = Site(echo)
    client = site.connect()
    client.send(message("POST", "/", "Content-Length: 100000"))
    for _ in range(60):
        client.wait(1)
        if client.half_closed:
            break
        client.send(b"x")
    assert client.statuses == [408]
    assert client.protocol.ending.rule == "min_body_rate"
    assert site.clock.seconds() == pytest.approx(11.5, abs=1.6)


def test_content_at_the_slowest_allowed_rate_is_read():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Content-Length: 24000"))
    for _ in range(100):
        client.wait(1)
        client.send(b"x" * 240)
    assert client.answer().body == b"x" * 24_000


def test_a_minimum_rate_of_zero_is_no_minimum():
    client = Site(echo, min_body_rate=0).connect()
    client.send(message("POST", "/", "Content-Length: 5"))
    for _ in range(5):
        client.wait(25)
        client.send(b"x")
    assert client.answer().body == b"xxxxx"


def test_empty_chunk_extensions_are_no_progress():
    client = Site(echo).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + b"5;")
    for _ in range(60):
        client.wait(1)
        if client.half_closed:
            break
        client.send(b"a")
    assert client.statuses == [408]


def test_trailers_that_trickle_in_are_no_progress():
    client = Site(echo, min_body_rate=0).connect()
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 9000) + b"0\r\n")
    for _ in range(60):
        client.wait(1)
        if client.half_closed:
            break
        client.send(b"A: b\r\n")
    assert client.statuses == [408]


def test_unread_content_behind_its_answer_is_held_to_the_same_time():
    client = Site(hello).connect()
    client.send(message("POST", "/", "Content-Length: 1000") + b"x")
    assert client.answer().status == 200
    client.wait(29)
    client.wait(3)
    assert client.statuses == [200]
    assert client.half_closed
    assert client.protocol.ending.rule in {"body_timeout", "min_body_rate"}


def test_a_slow_response_under_way_is_cut_when_its_content_stands_still():
    client = Site(mirror).connect()
    client.send(message("POST", "/", "Content-Length: 10000") + b"x" * 9000)
    assert client.statuses == [200]
    client.wait(32)
    assert client.gone
    assert not client.answer().whole
    assert client.protocol.ending.rule == "body_timeout"


def test_content_behind_a_slow_answer_is_held_to_its_time_and_told_in_turn():
    gate = Deferred()

    async def responder(request):
        if request.path == "/slow":
            await gate
            return Response.text("slow")
        return await echo(request)

    client = Site(responder).connect()
    client.send(get("/slow") + message("POST", "/", "Content-Length: 100") + b"x")
    client.wait(40)
    assert not client.answers()
    gate.callback(None)
    client.turn()
    assert client.statuses == [200, 408]
    assert client.half_closed


def test_content_that_is_complete_has_no_deadline():
    desk = Desk()
    client = Site(desk).connect()
    client.send(message("POST", "/", "Content-Length: 3"), b"abc")
    client.wait(1000)
    desk.answer()
    assert client.statuses == [200]
    assert not client.half_closed


# the end


def test_our_side_is_closed_first_and_the_client_has_time_to_close_its_own(site):
    client = site.connect()
    client.send(get("/", "Connection: close"))
    assert client.wire.ended
    client.send(b"more" * 1000)
    client.wait(1.8)
    assert not client.gone
    client.wait(0.5)
    assert client.gone
    assert client.wire.log[-1] == "abort"


def test_a_client_that_closes_its_side_ends_it_at_once(site):
    client = site.connect()
    client.send(get("/", "Connection: close"))
    client.close()
    assert client.gone
    assert "abort" not in client.wire.log


def test_sending_on_does_not_buy_time_to_linger(site):
    client = site.connect()
    client.send(get("/", "Connection: close"))
    for _ in range(30):
        client.wait(0.1)
        if client.gone:
            break
        client.send(b"more")
    assert client.gone


def test_what_is_unsent_is_not_cut_by_the_linger(site):
    """How long the client may take to read is the transport's to say."""
    client = site.connect(room=10)
    client.send(get("/", "Connection: close"))
    client.wait(20)
    assert not client.gone
    client.take()
    client.wait(3)
    assert client.answer().whole
    assert client.gone


def test_what_is_unsent_to_a_client_that_has_closed_its_side_is_not_cut_by_the_linger(site):
    client = site.connect(room=10)
    client.send(get())
    client.close()
    client.wait(20)
    assert not client.gone
    client.take()
    assert client.answer().whole
    assert client.gone


def test_tls_says_goodbye_and_waits_no_longer_than_the_linger(site):
    client = site.connect(tls=True)
    client.send(get("/", "Connection: close"))
    assert "lose_write" not in client.wire.log, "TLS has its own way to say that nothing more comes"
    assert client.wire.closing
    client.wait(1.8)
    assert not client.gone
    client.wait(0.5)
    assert client.gone


def test_tls_ends_when_the_client_says_goodbye(site):
    client = site.connect(tls=True)
    client.send(get("/", "Connection: close"))
    client.close()
    assert client.gone
    assert "abort" not in client.wire.log


def test_tls_that_was_not_read_from_is_read_from_for_the_goodbye():
    client = Site(lambda _: Response.text("no")).connect(tls=True)
    client.protocol.dataReceived(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 100_000))
    client.turn()
    assert client.wire.closing
    assert client.wire.reading


def test_tls_whose_answer_completes_with_the_content_waits_no_longer_than_the_linger():
    client = Site(echo, max_requests=1).connect(tls=True)
    client.send(message("POST", "/", "Content-Length: 3"), b"abc")
    assert client.wire.closing
    client.wait(2.5)
    assert client.gone


def test_what_begins_behind_the_end_is_not_given_the_time_of_a_request():
    client = Site(echo, max_body=10).connect(tls=True)
    client.send(message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x" * 11) + b"0\r\n\r\nGET / HT")
    assert client.statuses == [413]
    client.wait(2.5)
    assert client.gone


@pytest.mark.parametrize("tls", [False, True])
def test_a_transport_that_cannot_say_what_is_unsent_gets_more_time(tls, monkeypatch):
    """Twisted's own: its client may still be reading."""
    monkeypatch.delattr("tests.support.http.Wire.unsent")
    client = Site(hello).connect(tls=tls, room=10)
    client.send(get("/", "Connection: close" if tls else "Connection: keep-alive"))
    if not tls:
        client.close()
    client.wait(20)
    assert not client.gone
    client.wait(60)
    assert client.gone


# nothing is left


WAYS = {
    "nothing": [],
    "half a head": [b"GET / HT"],
    "a request": [get()],
    "two requests": [get() + get()],
    "a request and a half": [get() + b"GET"],
    "half a content": [message("POST", "/", "Content-Length: 10") + b"x"],
    "an offer": [get("/", "Connection: Upgrade", "Upgrade: h2c")],
    "garbage": [b"garbage\r\n\r\n"],
    "the last request": [get("/", "Connection: close")],
    "an expectation": [message("POST", "/", "Content-Length: 10", "Expect: 100-continue")],
    "content in chunks": [message("POST", "/", "Transfer-Encoding: chunked") + chunk(b"x")],
    "a complete content": [post("/", b"x")],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("responder", [hello, echo, mirror], ids=["hello", "echo", "mirror"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_every_connection_ends_by_itself_and_leaves_nothing(way, responder, tls):
    ledger = Ledger(responder)
    site = Site(ledger)
    client = site.connect(tls=tls)
    client.send(*WAYS[way])
    client.wait(120, step=0.5)
    assert client.gone
    assert ledger.open == 0
    assert site.held == 0
    assert not site.clock.getDelayedCalls()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_lost_connection_leaves_nothing(way, tls):
    desk = Desk()
    ledger = Ledger(desk)
    site = Site(ledger)
    client = site.connect(tls=tls)
    client.send(*WAYS[way])
    client.lose()
    assert ledger.open == 0
    assert site.held == 0
    site.clock.advance(100)
    assert not site.clock.getDelayedCalls()
    assert len(desk.cancelled) == len(desk.pending)
