"""What Twisted does on its own: ``twisted_peer.py web|echo|calculator PORT``, epoll reactor, no log, loopback."""

from __future__ import annotations

import sys

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402 - only after the reactor is chosen
from twisted.internet.protocol import Factory, Protocol  # noqa: E402
from twisted.web.resource import Resource  # noqa: E402
from twisted.web.server import Site  # noqa: E402

BACKLOG = 4096


class Hello(Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"content-type", b"text/plain")
        return b"Hello, World!"


class Root(Resource):
    """Routing as twisted.web does it: one child a path segment."""

    def __init__(self):
        super().__init__()
        self.putChild(b"hello", Hello())


class Echo(Protocol):
    def connectionMade(self):
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        self.transport.write(data)


class Calculator(Protocol):
    """Sums behind one-byte lengths, which is all that the generator sends."""

    rest = b""

    def connectionMade(self):
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        data = self.rest + data
        at, replies = 0, []
        while at < len(data) and (end := at + 1 + data[at]) <= len(data):
            replies.append(self.answer(data[at + 1 : end]))
            at = end
        self.rest = data[at:]
        self.transport.write(b"".join(replies))

    @staticmethod
    def answer(body):
        asked = ClientMessage.FromString(body).add_request
        reply = ServerMessage(add_response=AddResponse(result=asked.a + asked.b)).SerializeToString()
        return bytes((len(reply),)) + reply


def calculator():
    """Import the generated messages only where they are wanted."""
    global AddResponse, ClientMessage, ServerMessage  # noqa: PLW0603 - module names, as an import at the top makes them
    from netapp.protocols.calculator_pb2 import AddResponse, ClientMessage, ServerMessage  # noqa: PLC0415

    return Factory.forProtocol(Calculator)


FACTORIES = {
    "web": lambda: Site(Root(), timeout=75),
    "echo": lambda: Factory.forProtocol(Echo),
    "calculator": calculator,
}

if __name__ == "__main__":
    reactor.listenTCP(int(sys.argv[2]), FACTORIES[sys.argv[1]](), backlog=BACKLOG, interface="127.0.0.1")
    reactor.run()
