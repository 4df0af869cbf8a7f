"""The client's side of WebSocket connections in memory: hand-made frames in, frames out."""

from __future__ import annotations

import struct

from twisted.internet.task import Clock

from netapp.http import Headers, Request, Router
from netapp.peer import Peer
from netapp.protocols.http1 import Http1Factory
from netapp.protocols.websocket import EchoService, WebSocketService, websocket_responder
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers
from tests.support.stream import Stream

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3 has both
MASK = b"\x01\x02\x03\x04"

HANDSHAKE = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def frame(opcode, payload=b"", *, fin=True, mask=MASK, rsv=0):
    size = len(payload)
    marker = 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([marker | size])
    elif size < 65536:
        head += bytes([marker | 126]) + struct.pack("!H", size)
    else:
        head += bytes([marker | 127]) + struct.pack("!Q", size)
    if mask:
        pad = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    return head + mask + payload


def text(message, **options):
    return frame(TEXT, message.encode(), **options)


def close(code=None, reason=""):
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def closed(code, reason=b""):
    """What :func:`read_frames` makes of a server's Close."""
    return (CLOSE, struct.pack("!H", code) + reason)


def read_frames(data):
    """Return ``(opcode, payload)`` of each of a server's frames: complete, unmasked, unfragmented; RSV1 is 0x40."""
    found = []
    while data:
        assert data[0] & 0x80
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack_from("!H", data, 2)[0], 4
        elif size == 127:
            size, start = struct.unpack_from("!Q", data, 2)[0], 10
        assert len(data) >= start + size
        found.append((data[0] & 0x4F, data[start : start + size]))
        data = data[start + size :]
    return found


class Client:
    """One client of a server that has nothing but ``service`` at ``/ws``, and all that a test looks at.

    ``mark`` is how many bytes the server's transport takes before its write buffer counts as full.
    """

    def __init__(self, service, policy=None, *, mark=64 * 1024):
        self.clock = Clock()
        self.clock.advance(1000)
        self.registry = Registry()
        self.timers = Timers(self.clock, self.clock.seconds)
        self.responder = websocket_responder(
            service, policy, clock=self.clock, timers=self.timers, registry=self.registry, name="web"
        )
        router = Router()
        router.add("/ws", self.responder, methods=("GET", "POST"))
        factory = Http1Factory(router, clock=self.clock, timers=self.timers)
        protocol = factory.buildProtocol(None)
        protocol.set_peer(Peer("web-1", listener="web", host="192.0.2.1", port=50000))
        self.stream = Stream(protocol)
        self.stream.mark = mark

    @property
    def server(self):
        return self.stream.protocol

    def request(self, *lines, method="GET", version="1.1", behind=b"", **fields):
        """Send a request that is a handshake but for ``fields`` (None: left out); return the response's head."""
        changed = {name.replace("_", "-"): value for name, value in fields.items()}
        known = [f"{name}: {value}" for name, value in {**HANDSHAKE, **changed}.items() if value is not None]
        head = "\r\n".join([f"{method} /ws HTTP/{version}", *known, *lines, "", ""])
        self.stream.send(head.encode() + behind)
        answer, _, self.stream.unsent = self.stream.unsent.partition(b"\r\n\r\n")
        return answer.decode()

    def send(self, *pieces):
        """Send frames, each of the pieces in a read of its own, whether they are read or not."""
        for piece in pieces:
            self.server.dataReceived(piece)

    def look(self):
        """Return the frames that the server has written and that were not read yet."""
        return read_frames(self.stream.unsent)

    def read(self):
        """Read what the server has written."""
        return read_frames(self.stream.take())

    def wait(self, seconds):
        self.clock.pump([0.1] * round(seconds * 10))

    def count(self, name, *labels):
        return next(family for family in self.registry if family.name == name).child("web", *labels).value


def connect(service=None, policy=None, *, mark=64 * 1024, **fields):
    client = Client(service or EchoService(), policy, mark=mark)
    assert client.request(**fields).startswith("HTTP/1.1 101 ")
    client.stream.take()
    return client


def unfinished(client):
    """Return a connection of the client's server that was handed over, and has not been sent its handshake yet."""
    request = Request("GET", b"/ws", Headers(HANDSHAKE), Peer("1"), host="example.com")
    connection = client.responder(request).build(request)
    return connection, Stream(connection)


class Recorder(WebSocketService):
    """Writes down what happens to it; ``answers`` are what its handlers return, or raise, one after the other."""

    def __init__(self, *answers):
        self.seen = []
        self.socket = None
        self._answers = list(answers)

    def _answer(self):
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_open(self, socket):
        self.socket = socket
        self.seen.append("open")
        return self._answer()

    def on_message(self, socket, message):
        assert socket is self.socket
        self.seen.append(message)
        return self._answer()

    def on_close(self, socket, code, reason):
        assert socket is self.socket
        self.seen.append((code, reason))
        return self._answer()
