"""A TCP transport in memory: with a write buffer that fills, a producer that is paused, and half-closing."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

READ = 64 * 1024


@implementer(ITCPTransport, IConsumer, IPushProducer)
class Stream:
    """Connects ``protocol`` to a peer that a test plays.

    As Twisted's own do, it pauses the producer at a write that leaves more than ``mark`` bytes unsent, resumes it once
    everything is sent, and closes no sooner than that; a registered producer keeps it open.
    """

    def __init__(self, protocol, mark=READ):
        self.protocol = protocol
        self.mark = mark
        self.writes = []
        self.unsent = b""
        self.received = b""
        self.most_unsent = 0
        self.reading = True
        self.ended = False
        self.closed = False
        self.aborted = False
        self._producer = None
        self._paused = False
        self._ending = self._closing = False
        protocol.makeConnection(self)

    # What the protocol does

    def write(self, data):
        assert isinstance(data, bytes)
        if self.closed or self.ended or not data:
            return
        self.writes.append(data)
        self.unsent += data
        self.most_unsent = max(self.most_unsent, len(self.unsent))
        if self._producer is not None and len(self.unsent) > self.mark:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, pieces):
        self.write(b"".join(pieces))

    def loseConnection(self):
        self._closing = True
        self.reading = False

    def loseWriteConnection(self):
        self._ending = True

    def abortConnection(self):
        self.aborted = self.closed = True

    def registerProducer(self, producer, streaming):
        assert self._producer is None
        assert streaming
        self._producer = producer

    def unregisterProducer(self):
        assert self._producer is not None
        self._producer = None

    def pauseProducing(self):
        self.reading = False

    def resumeProducing(self):
        assert not self._closing
        self.reading = True

    def stopProducing(self):
        self.loseConnection()

    # What the peer does

    def send(self, data):
        """Deliver as much of ``data`` as is read, in reads of 64 KiB; return the rest."""
        while data and self.reading:
            self.protocol.dataReceived(data[:READ])
            data = data[READ:]
        return data

    def take(self):
        """Read what has been written, once; return it."""
        taken, self.unsent = self.unsent, b""
        self.received += taken
        if self._producer is not None and self._paused:
            self._paused = False
            self._producer.resumeProducing()
        elif self._producer is None and not self.unsent:
            self._flushed()
        return taken

    def take_all(self):
        """Read until nothing more comes; return all that was ever received."""
        while self.take():
            pass
        return self.received

    def end(self):
        """Close the peer's side."""
        assert self.reading
        self.protocol.readConnectionLost()

    def lose(self, error=None):
        """Lose the connection."""
        self.closed = True
        if self._producer is not None:
            self._producer.stopProducing()
            self._producer = None
        self.protocol.connectionLost(Failure(error or ConnectionDone()))

    def _flushed(self):
        if self._closing and not self.closed:
            self.lose()
        elif self._ending and not self.ended:
            self.ended = True
            self.protocol.writeConnectionLost()
