"""HTTP/1 in memory: a transport, the client at its other end, and a reader of what the server sends."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from netapp.http import Response
from netapp.peer import Peer
from netapp.protocols.http1 import Http1Factory, HttpPolicy
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers

READ = 64 * 1024
HOST = b"Host: example.com\r\n"


def get(path="/", *fields, version="1.1"):
    """A GET request's bytes."""
    return message("GET", path, *fields, version=version)


def post(path="/", body=b"", *fields, version="1.1"):
    """A POST request's bytes, framed by Content-Length."""
    return message("POST", path, f"Content-Length: {len(body)}", *fields, version=version) + body


def chunked(path="/", pieces=(), *fields, trailer=b""):
    """A POST request's bytes, in chunks."""
    head = message("POST", path, "Transfer-Encoding: chunked", *fields)
    return head + b"".join(map(chunk, pieces)) + b"0\r\n" + trailer + b"\r\n"


def chunk(piece):
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def message(method, path, *fields, version="1.1"):
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"{method} {path} HTTP/{version}\r\n".encode() + HOST + lines.encode("latin-1") + b"\r\n"


class Answer:
    """One response as the client read it. ``headers`` has lower-case names; ``whole`` says whether it is complete."""

    def __init__(self, status, headers, body, *, whole=True, raw_headers=()):
        self.status = status
        self.headers = headers
        self.body = body
        self.whole = whole
        self.raw_headers = raw_headers

    @property
    def closes(self):
        return self.headers.get("connection") == "close"

    def __repr__(self):
        return f"<{self.status} {self.body[:40]!r}{'' if self.whole else ' cut'}>"


def read_answers(data, methods=(), *, ended=False):
    """Read every response in ``data``; ``methods`` are those of the requests, GET where nothing is said.

    Fails the test when ``data`` is no sequence of well-formed responses. ``ended`` says that no byte will follow.
    """
    answers = []
    waiting = list(methods)
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            assert not ended, f"an incomplete head: {data!r}"
            break
        answer, data = _read_answer(head, rest, waiting[0] if waiting else "GET")
        answers.append(answer)
        if answer.status >= 200 and waiting:
            waiting.pop(0)
    return answers


def _read_answer(head, rest, method):
    status_line, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = status_line.split(" ", 2)
    assert version == "HTTP/1.1", status_line
    pairs = [tuple(line.split(": ", 1)) for line in lines]
    headers = dict(pairs)
    status = int(status)
    if status < 200 or status in {204, 304} or method == "HEAD":
        return Answer(status, headers, b"", raw_headers=pairs), rest
    if headers.get("transfer-encoding") == "chunked":
        assert "content-length" not in headers
        body, whole, rest = _read_chunks(rest)
    elif "content-length" in headers:
        size = int(headers["content-length"])
        body, whole, rest = rest[:size], len(rest) >= size, rest[size:]
    else:
        assert headers.get("connection") == "close", headers
        body, whole, rest = rest, True, b""
    return Answer(status, headers, body, whole=whole, raw_headers=pairs), rest


def _read_chunks(data):
    body = b""
    while True:
        size, found, rest = data.partition(b"\r\n")
        if not found:
            return body, False, b""
        size = int(size, 16)
        if len(rest) < size + 2:
            return body + rest[:size], False, b""
        assert rest[size : size + 2] == b"\r\n"
        if not size:
            return body, True, rest[2:]
        body += rest[:size]
        data = rest[size + 2 :]


class Wire(StringTransport):
    """A TCP transport as the engine sees it, behaving as Twisted's own do, and keeping count of what is done to it.

    ``room`` (bytes) is what the client's side takes before writes begin to wait; ``mark`` is how many may wait before
    the producer is paused. ``log`` lists the calls that matter, in order.
    """

    def __init__(self, room=None, mark=64 * 1024):
        super().__init__(peerAddress=None)
        self.room = room
        self.mark = mark
        self.log = []
        self.sent = b""
        self.waiting = b""
        self.most_waiting = 0
        self.reading = True
        self.lost = False
        self.ending = False  # loseWriteConnection was called
        self.ended = False  # … and everything is out
        self.closing = False  # loseConnection was called
        self.aborting = False
        self.told_to_pause = False
        self.on_lost = None

    @property
    def unsent(self):
        return len(self.waiting)

    def write(self, data):
        assert isinstance(data, bytes), data
        assert not self.ended, f"written after the end: {data!r}"
        assert not self.ending, f"written after loseWriteConnection: {data!r}"
        if self.lost or self.aborting:
            return
        assert not self.closing, f"written after loseConnection: {data!r}"
        self.waiting += data
        self._flush()
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if len(self.waiting) > self.mark and self.producer is not None:
            self.told_to_pause = True
            self.producer.pauseProducing()

    def take(self, size=None):
        """The client reads ``size`` more bytes (everything, for ever, without a size)."""
        self.room = None if size is None else (self.room or 0) + size
        self._flush()
        if not self.waiting and self.producer is not None and self.told_to_pause:
            self.told_to_pause = False
            self.producer.resumeProducing()

    def _flush(self):
        out = self.waiting if self.room is None else self.waiting[: self.room]
        self.sent += out
        self.waiting = self.waiting[len(out) :]
        if self.room is not None:
            self.room -= len(out)

    def pauseProducing(self):
        self.log.append("pause")
        self.reading = False

    def resumeProducing(self):
        self.log.append("resume")
        self.reading = True

    def loseConnection(self):
        self.log.append("lose")
        self.closing = True
        if self.ended:
            self.on_lost(ConnectionDone())  # Twisted's own closes at once when it has half-closed before

    def loseWriteConnection(self):
        self.log.append("lose_write")
        self.ending = True

    def abortConnection(self):
        self.log.append("abort")
        self.aborting = True


class Client:
    """The other end of one connection to ``factory``: sends, reads, waits, leaves.

    What it sends while the server does not read waits, as it would in the kernel.
    """

    def __init__(self, factory, clock, *, room=None, mark=64 * 1024, tls=False, peer=None):
        self.clock = clock
        self.wire = Wire(room, mark)
        if tls:
            alsoProvides(self.wire, ISSLTransport)
        self.wire.on_lost = self._lost
        self._tls = tls
        self._goodbye = False
        self._inbox = []
        self._eof = False
        self.protocol = factory.buildProtocol(None)
        self.protocol.set_peer(peer or Peer("web-1", "web", "192.0.2.1", 4711))
        self.protocol.makeConnection(self.wire)

    # what the client does

    def send(self, *pieces):
        """Send each piece so that it arrives in a read of its own."""
        for piece in pieces:
            self._inbox += [piece[at : at + READ] for at in range(0, len(piece), READ)]
            self.turn()
        return self

    def close(self):
        """Say that nothing more will be sent; with TLS, say goodbye."""
        self._eof = True
        self.turn()

    def lose(self, error=None):
        """Vanish: RST, unless another ``error`` is given."""
        self._lost(error or ConnectionLost())

    def wait(self, seconds, step=0.1):
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.turn()
        return self

    def take(self, size=None):
        """Read (see Wire.take)."""
        self.wire.take(size)
        self.turn()

    # what the reactor does

    def turn(self):
        """Deliver what is due until nothing more is."""
        while self._step():
            pass

    def _step(self):
        wire = self.wire
        if wire.lost:
            return False
        if wire.aborting:
            self._lost(ConnectionAborted())
        elif wire.reading and self._inbox:
            self.protocol.dataReceived(self._inbox.pop(0))
        elif wire.ending and not wire.ended and not wire.waiting:
            assert wire.producer is None, "a producer keeps the connection open"
            wire.ended = True
            self.protocol.writeConnectionLost()
        elif wire.closing and not wire.waiting and (not self._tls or self._goodbye):
            assert wire.producer is None, "a producer keeps the connection open"
            self._lost(ConnectionDone())
        elif wire.reading and self._eof and not self._goodbye:
            self._goodbye = True
            if self._tls:
                wire.closing = True  # as twisted.protocols.tls answers close_notify
                wire.producer = None
            else:
                self.protocol.readConnectionLost()
        else:
            return False
        return True

    def _lost(self, error):
        wire = self.wire
        assert not wire.lost
        wire.lost = True
        if wire.producer is not None:
            wire.producer.stopProducing()
        self.protocol.connectionLost(Failure(error))

    # what the client sees

    @property
    def gone(self):
        """Whether the connection is over."""
        return self.wire.lost

    @property
    def half_closed(self):
        """Whether the client has been told that nothing more comes."""
        return self.wire.ended or self.wire.lost

    def answers(self, *methods):
        """Every response so far, interim ones included."""
        return read_answers(self.wire.sent, methods)

    def answer(self, method="GET"):
        """The only response so far."""
        [answer] = self.answers(method)
        return answer

    @property
    def statuses(self):
        return [answer.status for answer in self.answers()]

    @property
    def bodies(self):
        return [answer.body for answer in self.answers()]


class Site:
    """A server in memory: its clock, its deadlines, its metrics, and connections to it."""

    def __init__(self, responder, **policy):
        self.clock = Clock()
        self.timers = Timers(self.clock, now=self.clock.seconds)
        self.registry = Registry()
        self.factory = Http1Factory(
            responder,
            HttpPolicy(**policy),
            clock=self.clock,
            timers=self.timers,
            registry=self.registry,
            name="web",
        )

    def connect(self, **options):
        return Client(self.factory, self.clock, **options)

    @property
    def refused(self):
        """How many requests were refused, by status."""
        [family] = [family for family in self.registry if family.name == "netapp_http_requests_refused_total"]
        return {int(status): child.value for (_, status), child in family.children.items()}

    @property
    def held(self):
        """How many things wait for a deadline."""
        return len(self.timers)


class Desk:
    """A responder that answers when the test says so; ``requests`` are those that it was asked, in order."""

    def __init__(self):
        self.requests = []
        self.pending = []
        self.cancelled = []

    def __call__(self, request):
        self.requests.append(request)
        pending = Deferred(self.cancelled.append)
        self.pending.append(pending)
        return pending

    def answer(self, text="done", **options):
        """Answer the oldest request that waits."""
        self.pending.pop(0).callback(Response.text(text, **options))


class Ledger:
    """Wraps a responder and books every request's end: ``ends`` has (path, status, sent, error)."""

    def __init__(self, responder):
        self._responder = responder
        self.begun = 0
        self.ends = []

    def __call__(self, request):
        self.begun += 1
        request.on_finish(self._finished)
        return self._responder(request)

    def _finished(self, request, status, sent, error):
        self.ends.append((request.path, status, sent, error))

    @property
    def open(self):
        return self.begun - len(self.ends)


def hello(request):
    """Answers with the path."""
    return Response.text(request.path)


async def echo(request):
    """Answers with the content, once it is complete."""
    return Response(200, await request.body.read())


def mirror(request):
    """Streams the content back as it comes."""
    return Response(200, request.body)
