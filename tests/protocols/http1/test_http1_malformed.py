"""What is refused: each answer closes the connection and is counted (RFC 9112 §2.2, §3, §5, §6, §11.2)."""

import pytest

from netapp.errors import End
from tests.support.http import Ledger, Site, get, hello, message


def framed(*fields, body=b"", version="1.1", method="POST"):
    return message(method, "/", *fields, version=version) + body


SMUGGLING = {
    "Content-Length with Transfer-Encoding": framed("Content-Length: 3", "Transfer-Encoding: chunked"),
    "Transfer-Encoding with Content-Length": framed("Transfer-Encoding: chunked", "Content-Length: 3"),
    "two equal Content-Lengths": framed("Content-Length: 3", "Content-Length: 3", body=b"abc"),
    "two Content-Lengths": framed("Content-Length: 3", "Content-Length: 4", body=b"abc"),
    "a list of Content-Lengths": framed("Content-Length: 3, 3", body=b"abc"),
    "an empty Content-Length": framed("Content-Length:"),
    "a signed Content-Length": framed("Content-Length: +3", body=b"abc"),
    "a negative Content-Length": framed("Content-Length: -1"),
    "a hexadecimal Content-Length": framed("Content-Length: 0x3", body=b"abc"),
    "a Content-Length with a space": framed("Content-Length: 3 3", body=b"abc"),
    "a Content-Length beyond 64 bits": framed("Content-Length: 99999999999999999999"),
    "stacked codings": framed("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked twice": framed("Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "chunked twice in two fields": framed(
        "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "chunked not last": framed("Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "Transfer-Encoding: identity": framed("Transfer-Encoding: identity"),
    "Transfer-Encoding: gzip": framed("Transfer-Encoding: gzip"),
    "an empty Transfer-Encoding": framed("Transfer-Encoding:"),
    "almost chunked": framed("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "chunked in quotes": framed('Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "chunked with a parameter": framed("Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"),
    "chunked behind a vertical tab": framed("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "chunked in HTTP/1.0": framed("Transfer-Encoding: chunked", body=b"0\r\n\r\n", version="1.0"),
    "an obsolete fold": framed("A: b\r\n c"),
    "a fold before the first field": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "a bare LF after the request line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "a bare LF after a field": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "a bare LF at the end": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "a bare CR in a field": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "a bare CR after a field": b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
    "a tab before the colon": b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: x\r\n: nothing\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a list of Hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a Host that is not the target's": b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "a target with a user": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target without authority": b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target of another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
    "'*' with GET": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "a relative target": b"GET a/b HTTP/1.1\r\nHost: x\r\n\r\n",
    "an authority for a target": b"GET x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte over 127 in the target": b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "white space after the version": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a lower-case protocol": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "an unknown version": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "a tab before the version": b"GET /\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "a request line of HTTP and a second word": b"GET / HTTP/1.1 x\r\nHost: x\r\n\r\n",
}
CONTROLS = [*range(9), *range(0x0B, 0x0D), *range(0x0E, 0x20), 0x7F, 0x85]
SMUGGLING |= {f"0x{code:02x} in a value": b"GET / HTTP/1.1\r\nHost: x\r\nA: b%cc\r\n\r\n" % code for code in CONTROLS}
SMUGGLING |= {f"0x{code:02x} in a name": b"GET / HTTP/1.1\r\nHost: x\r\nA%c: b\r\n\r\n" % code for code in CONTROLS}
OTHER_STATUS = {
    "an unknown method": (501, b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a lower-case method": (501, b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a tab after the method": (501, b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "TLS on a plain port": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "CONNECT": (501, b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n"),
    "a method of RTSP": (501, b"SETUP /x RTSP/1.0\r\nHost: x\r\n\r\n"),
    "HTTP/2.0": (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "HTTP/0.9 by name": (505, b"GET / HTTP/0.9\r\n\r\n"),
    "an unknown expectation": (417, framed("Expect: teapot", "Content-Length: 3")),
    "two expectations": (417, framed("Expect: 100-continue, teapot", "Content-Length: 3")),
    "too long a target": (414, get("/" + "x" * 8192)),
    "too long a target, incomplete": (414, b"GET /" + b"x" * 8192),
    "too many fields": (431, get("/", *["A: b"] * 100)),
    "too many fields, incomplete": (431, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 102),
    "too large fields": (431, get("/", *[f"A: {'x' * 8000}"] * 5)),
    "too large a field": (431, get("/", f"A: {'x' * 40_000}")),
    "too much content, announced": (413, framed("Content-Length: 1048577")),
}


def refused(data):
    ledger = Ledger(hello)
    site = Site(ledger)
    client = site.connect()
    client.send(data)
    assert client.half_closed, "the connection must close behind the refusal"
    assert ledger.begun == 0, "a refused request reached the responder"
    answer = client.answer()
    limited = answer.status in {413, 414, 431}
    assert client.protocol.ending.end is (End.POLICY_LIMIT if limited else End.PROTOCOL_VIOLATION)
    assert answer.closes
    assert answer.whole
    assert site.refused == {answer.status: 1}
    client.close()
    assert client.gone
    assert site.held == 0
    return answer


@pytest.mark.parametrize("name", SMUGGLING)
def test_two_readers_of_one_chain_cannot_be_made_to_disagree(name):
    assert refused(SMUGGLING[name]).status == 400


@pytest.mark.parametrize("name", OTHER_STATUS)
def test_what_is_not_served_is_refused_with_the_status_that_says_why(name):
    status, data = OTHER_STATUS[name]
    assert refused(data).status == status


@pytest.mark.parametrize("name", [*SMUGGLING, *OTHER_STATUS])
def test_a_refusal_is_the_same_however_the_bytes_are_split(name):
    data = SMUGGLING[name] if name in SMUGGLING else OTHER_STATUS[name][1]
    whole = refused(data)
    for size in (1, 7) if len(data) < 1000 else (977,):
        site = Site(hello)
        client = site.connect()
        client.send(*[data[at : at + size] for at in range(0, len(data), size)])
        assert client.statuses == [whole.status]
        assert client.half_closed
        assert site.refused == {whole.status: 1}


CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\nabc\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"fffffffffffffffff\r\nabc",
    "a space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "a bare LF after an extension": b"3;a\nabc\r\n0\r\n\r\n",
    "a bare LF in an extension": b"3;a\n\r\nabc\r\n0\r\n\r\n",
    "more data than the size": b"3\r\nabcd\r\n0\r\n\r\n",
    "less data than the size": b"4\r\nabc\r\n0\r\n\r\n",
    "a bare LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "Content-Length in the trailers": b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
    "Transfer-Encoding in the trailers": b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a space before a trailer's colon": b"3\r\nabc\r\n0\r\nA : b\r\n\r\n",
    "a folded trailer": b"3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n",
    "a control character in a trailer": b"3\r\nabc\r\n0\r\nA: b\x0bc\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("size", [1, 1000])
def test_malformed_chunks_are_refused_and_end_the_connection(name, size):
    async def read(request):
        await request.body.read()
        raise AssertionError("never complete")

    site = Site(read)
    client = site.connect()
    data = framed("Transfer-Encoding: chunked", body=CHUNKS[name])
    client.send(*[data[at : at + size] for at in range(0, len(data), size)])
    client.send(get("/smuggled"))
    assert client.statuses == [400]
    assert client.half_closed
    assert site.refused == {400: 1}
    assert client.protocol.ending.end is End.PROTOCOL_VIOLATION


def test_upgrade_in_the_trailers_is_no_upgrade():
    client = Site(hello).connect()
    trailer = b"Upgrade: h2c\r\nConnection: upgrade\r\n"
    client.send(framed("Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n") + get("/b"))
    assert client.bodies == [b"/", b"/b"]


def test_host_and_target_that_agree_are_served():
    client = Site(hello).connect()
    client.send(b"GET http://Example.COM/a?b HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert client.answer().body == b"/a"


def test_spaces_around_the_target_are_tolerated():
    """RFC 9112 §3: a recipient may take several spaces for one. No target holds a space, so none can be misread."""
    client = Site(hello).connect()
    client.send(b"GET  /a  HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.answer().body == b"/a"


def test_empty_lines_before_a_request_are_ignored():
    """RFC 9112 §2.2."""
    client = Site(hello).connect()
    client.send(b"\r\n\r\n" + get("/a") + b"\r\n" + get("/b"))
    assert client.bodies == [b"/a", b"/b"]


def test_options_may_ask_about_the_whole_server():
    client = Site(hello).connect()
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.answer().body == b"*"


def test_field_names_with_underscores_are_dropped():
    """They would pass for others in CGI and WSGI."""
    seen = []
    client = Site(lambda request: seen.append(request.headers) or hello(request)).connect()
    client.send(get("/", "X_Forwarded_For: 1.2.3.4", "Content_Length: 5", "X-Good: yes"))
    assert client.answer().status == 200
    assert [name for name, _ in seen[0]] == ["host", "x-good"]


def test_the_largest_header_section_that_is_allowed_is_served_however_it_is_split():
    target = "/" + "t" * 8191
    data = get(target, *[f"X-{number}: {'v' * 4000}" for number in range(8)])
    assert len(data) > 40_000
    for size in (len(data), 1, 1000, 20_000, 40_000):
        client = Site(hello).connect()
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for piece in pieces:
            client.protocol.dataReceived(piece)
        assert client.statuses == [200], size


def test_a_header_section_is_not_charged_for_what_came_before_it_in_the_same_read():
    client = Site(hello).connect()
    content = b"x" * 60_000
    first = message("POST", "/", f"Content-Length: {len(content)}")
    second = get("/b")
    client.send(first[:30], first[30:] + content + second[:20], second[20:])
    assert client.bodies == [b"/", b"/b"]


def test_a_field_without_an_end_is_refused_before_it_fills_the_memory():
    site = Site(hello)
    client = site.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
    sent = 0
    while not client.half_closed and sent < 10**6:
        client.send(b"x" * 5000)
        sent += 5000
    assert client.statuses == [431]
    assert sent <= 60_000


def test_too_many_fields_are_too_many_whatever_follows_them():
    """Read one by one, they would have been refused before the rest was there."""
    client = Site(hello).connect()
    client.send(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 102 + b"no field\r\n\r\n")
    assert client.statuses == [431]


def test_the_refusal_of_a_head_request_has_no_content():
    """RFC 9110 §9.3.2: a client would take it for the beginning of the next response."""
    client = Site(hello).connect()
    client.send(b"HEAD / HTTP/1.1\r\n\r\n")
    assert client.answer("HEAD").status == 400
    assert client.wire.sent.endswith(b"\r\n\r\n")


def test_more_garbage_behind_garbage_changes_nothing():
    client = Site(hello).connect()
    client.send(b"garbage\r\n\r\n", b"garbage", get())
    assert client.statuses == [501]


def test_a_refusal_is_json_for_who_asks_for_it():
    client = Site(hello).connect()
    client.send(b"GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n")
    assert client.answer().headers["content-type"] == "application/json"
    assert b'"status":400' in client.answer().body
