"""Echo (RFC 862): whatever the peer sends comes back, byte for byte.

The whole of the per-byte path is one ``write``: what back-pressure and the connection's end need is arranged once, in
``connectionMade``, by :class:`netapp.protocols.flow.Flow`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from netapp.errors import Draining, NetappError
from netapp.protocols.flow import LINGER, Flow, Wire, default_clock
from netapp.timers import Timers

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """One echoing connection; ``linger`` is described at :meth:`netapp.protocols.flow.Flow.finish`."""

    transport: Wire  # type: ignore[assignment]  # narrower than the base's: a stream transport, there once connected
    ending: NetappError | None = None
    _flow: Flow

    def __init__(self, timers: Timers, linger: float = LINGER) -> None:
        self._timers = timers
        self._linger = linger

    @property
    def state(self) -> str:
        """``active``, for nothing is known of what the bytes mean, or ``closing``."""
        return "closing" if not self.connected or self._flow.closing else "active"

    def connectionMade(self) -> None:
        """Tie reading to the room for writing."""
        self._flow = Flow(self.transport, self._timers)

    def dataReceived(self, data: bytes) -> None:
        """Send it back."""
        self.transport.write(data)

    def drain(self) -> None:
        """Write out what was received, then close."""
        if self.connected and not self._flow.closing:
            self.ending = Draining()
            self._flow.finish(self._linger)

    def readConnectionLost(self) -> None:
        """The peer has sent all: write out what is left of it, and close."""
        self._flow.close()

    def writeConnectionLost(self) -> None:
        """Our side is closed."""
        self._flow.flushed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        """The connection is gone."""
        self._flow.lost()


class EchoFactory(Factory):
    """Makes :class:`Echo`. Without ``timers`` it makes its own, on the global reactor."""

    noisy = False

    def __init__(self, timers: Timers | None = None, linger: float = LINGER) -> None:
        self._timers = timers
        self._linger = linger

    def buildProtocol(self, addr: IAddress | None) -> Echo:  # noqa: ARG002 - every address is served alike
        """Make the protocol of one connection."""
        if self._timers is None:
            self._timers = Timers(default_clock())
        protocol = Echo(self._timers, self._linger)
        protocol.factory = self
        return protocol
