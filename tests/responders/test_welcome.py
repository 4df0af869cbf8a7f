"""The application that is served where nothing is configured."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from netapp.http import Headers, HttpError, Request, Response
from netapp.peer import Peer
from netapp.protocols.http1 import Http1Factory, HttpPolicy
from netapp.responders import welcome_router


class Connection:
    """An HTTP/1 connection to the welcome application, in memory."""

    def __init__(self, websocket=None, **policy):
        self.transport = StringTransport()
        factory = Http1Factory(welcome_router(websocket), HttpPolicy(**policy), clock=Clock())
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, *pieces):
        """Send the pieces, and return all that came back since the last time."""
        for piece in pieces:
            self.protocol.dataReceived(piece)
        found = self.transport.value()
        self.transport.clear()
        return found

    def ask(self, method, path, *fields, body=b""):
        """Return status, header fields and body of one request's answer."""
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost:8080", *fields])
        return parse(self.send(head.encode() + b"\r\n\r\n" + body))


def parse(data):
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return int(status.split()[1]), {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}, body


def unchunk(data):
    """Return the content of complete chunks."""
    content = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            assert data == b"\r\n"
            return content
        content, data = content + data[: int(size, 16)], data[int(size, 16) + 2 :]


@pytest.fixture
def connection():
    return Connection()


def test_hello_is_exactly_that(connection):
    status, headers, body = connection.ask("GET", "/hello")
    assert (status, body) == (200, b"Hello, World!")
    assert headers["content-type"].startswith("text/plain")
    assert headers["content-length"] == "13"


def test_hello_has_a_head_and_takes_nothing_else(connection):
    status, headers, body = connection.ask("HEAD", "/hello")
    assert (status, headers["content-length"], body) == (200, "13", b"")
    status, headers, _ = connection.ask("POST", "/hello", "Content-Length: 0")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_hello_gives_each_request_a_response_of_its_own():
    router = welcome_router()
    first, second = (router(Request("GET", b"/hello", Headers(), Peer("c"))) for _ in range(2))
    first.headers.add("a", "1")
    assert "a" not in second.headers


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_echo_returns_the_content_of_any_method(connection, method):
    fields = ["Content-Type: application/x-thing", "Content-Length: 4"]
    status, headers, body = connection.ask(method, "/echo", *fields, body=b"ab\x00\xff")
    assert (status, body) == (200, b"ab\x00\xff")
    assert headers["content-type"] == "application/x-thing"
    assert headers["content-length"] == "4"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_echo_of_nothing_is_nothing(connection, method):
    status, headers, body = connection.ask(method, "/echo")
    assert (status, headers["content-length"], body) == (200, "0", b"")


def test_echo_of_empty_chunked_content_is_empty(connection):
    status, _, body = connection.ask("POST", "/echo", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    assert (status, body) == (200, b"0\r\n\r\n")


def test_what_is_posted_from_another_site_never_becomes_a_document_here(connection):
    _, headers, _ = connection.ask("POST", "/echo", "Content-Type: text/html", "Content-Length: 1", body=b"<")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


def test_content_without_a_type_is_octets(connection):
    _, headers, _ = connection.ask("POST", "/echo", "Content-Length: 1", body=b"<")
    assert headers["content-type"] == "application/octet-stream"


def test_echo_streams(connection):
    """What came is sent back before the rest has come."""
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n"
    assert connection.send(head) == b""
    assert connection.send(b"abc").endswith(b"\r\n\r\nabc")
    assert connection.send(b"def") == b"def"


def test_a_client_that_waits_for_100_has_it_before_the_answer(connection):
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    assert connection.send(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert parse(connection.send(b"abc"))[::2] == (200, b"abc")


def test_a_client_that_does_not_read_stops_being_read():
    connection = Connection(body_buffer=1024, max_body=10**6)
    connection.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"x")
    connection.protocol.pauseProducing()  # what a transport says whose buffer is full
    assert connection.send(b"x" * 512) == b"x" * 512  # the piece that was waited for
    assert connection.send(b"x" * 512, b"x" * 1024) == b""
    assert connection.transport.producerState == "paused"
    connection.protocol.resumeProducing()
    assert connection.send() == b"x" * 1536
    assert connection.transport.producerState == "producing"
    connection.protocol.connectionLost(Failure(ConnectionDone()))


def test_content_that_is_too_much_is_refused():
    status, _, _ = Connection(max_body=10).ask("POST", "/echo", "Content-Length: 11", body=b"x" * 11)
    assert status == 413


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(0, 30))
def test_any_content_comes_back_however_it_was_cut(pieces, cut):
    content = b"".join(pieces)
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + chunked
    at = len(head) - 10 + cut
    status, _, body = parse(Connection().send(data[:at], data[at:]))
    assert (status, unchunk(body)) == (200, content)


def index(accept="", host="localhost:8080", websocket=None, scheme="http"):
    headers = Headers([("accept", accept)] if accept else [])
    return welcome_router(websocket)(Request("GET", b"/", headers, Peer("c"), host=host, scheme=scheme))


@pytest.mark.parametrize("accept", ["", "*/*", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_the_index_is_a_page(accept):
    response = index(accept)
    assert response.headers.get("content-type") == "text/html; charset=utf-8"
    assert response.headers.get("vary") == "Accept"
    assert "default-src 'none'" in response.headers.get("content-security-policy")
    assert b"curl http://localhost:8080/hello" in response.body


def test_the_index_is_plain_text_for_whom_it_suits_better():
    response = index("text/plain")
    assert response.headers.get("content-type") == "text/plain; charset=utf-8"
    assert response.headers.get("vary") == "Accept"
    text = response.body.decode()
    assert "curl http://localhost:8080/hello" in text
    assert "netapp call add 2 3" in text
    assert "<" not in text


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_the_websocket_is_told_of_where_there_is_one(accept):
    assert b"ws" not in index(accept).body.replace(b"allows", b"")
    assert b"ws://localhost:8080/ws/echo" in index(accept, websocket=lambda _: Response()).body
    assert b"wss://localhost:8080/ws/echo" in index(accept, websocket=lambda _: Response(), scheme="https").body


@pytest.mark.parametrize("host", ["", "a;reboot", "$(reboot)", "x'y", "a&b", "%2e"])
def test_a_host_that_a_shell_would_read_differently_is_in_no_example(host):
    assert b"curl http://127.0.0.1:8080/hello" in index("text/plain", host).body


def test_the_websocket_is_routed_where_there_is_one():
    answer = Response(426)
    request = Request("GET", b"/ws/echo", Headers(), Peer("c"))
    assert welcome_router(lambda _: answer)(request) is answer
    with pytest.raises(HttpError):
        welcome_router()(request)


def test_echo_waits_for_a_body_that_is_not_here_yet():
    """With any kind of body: HTTP/2 and ASGI bring their own."""
    arrival = Deferred()

    class Body:
        async def read(self, limit=None):
            raise AssertionError("echo reads piece by piece")

        async def __aiter__(self):
            yield await arrival
            yield b"def"

    answer = welcome_router()(Request("POST", b"/echo", Headers(), Peer("c"), body=Body()))
    found = []
    ensureDeferred(answer).addCallback(found.append)
    assert found == []
    arrival.callback(b"abc")

    async def drain():
        return [piece async for piece in found[0].body]

    ensureDeferred(drain()).addCallback(found.append)
    assert found[1] == [b"abc", b"def"]
