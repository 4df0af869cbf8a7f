"""One TLS connection in memory: Twisted's server side, and the standard library's ``ssl`` as an independent client."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLServerConnectionCreator


class Recorder(Protocol):
    """Keeps what it hears, and why it ended."""

    def __init__(self) -> None:
        self.received = b""
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any) -> None:
        self.reason = reason


class Visit:
    """A client's visit. Nothing moves but through :meth:`pump` and what calls it."""

    def __init__(
        self,
        creator: IOpenSSLServerConnectionCreator,
        context: ssl.SSLContext,
        name: str | None = "a.example",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._clock = Clock()
        self.recorder = Recorder()
        factory = TLSMemoryBIOFactory(creator, False, Factory.forProtocol(lambda: self.recorder), clock=self._clock)
        self._server = factory.buildProtocol(None)
        self._transport = StringTransport()
        self._gone = False
        self._to_client, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self._to_client, self._to_server, server_hostname=name, session=session)
        self._server.makeConnection(self._transport)
        self.connection = self._server.getHandle()
        """OpenSSL's, on the server's side."""

    @property
    def closed(self) -> bool:
        """Whether the server has closed the transport."""
        return self._transport.disconnecting

    def handshake(self) -> Visit:
        """Shake hands, and carry one byte each way: a TLS 1.3 client is done before the server has judged it.

        Raises what the client raises: ssl.SSLError, with the alert's name in it.
        """
        while True:
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                assert self.pump(), "the handshake is stuck"
            else:
                break
        self.exchange(b"?", b"!")
        return self

    def exchange(self, question: bytes, answer: bytes) -> None:
        """Carry ``question`` to the server and ``answer`` back."""
        before = len(self.recorder.received)
        self.client.write(question)
        self.pump()
        if not self.closed:
            self.recorder.transport.write(answer)
            self.pump()
        heard = self.client.read(len(answer))
        while len(heard) < len(answer):
            heard += self.client.read(len(answer) - len(heard))
        assert heard == answer
        assert self.recorder.received[before:] == question

    def pump(self) -> bool:
        """Carry everything that waits, both ways, until nothing does; return whether there was anything."""
        moved = False
        while self._carry():
            moved = True
        return moved

    def _carry(self) -> bool:
        if self._gone:
            return False
        to_server = b"" if self.closed else self._to_server.read()
        if to_server:
            self._server.dataReceived(to_server)
        self._clock.advance(0)
        to_client = self._transport.value()
        self._transport.clear()
        self._to_client.write(to_client)
        if self.closed:
            self._server.connectionLost(Failure(ConnectionDone()))
            self._to_client.write_eof()
            self._gone = True
        return bool(to_server or to_client)
