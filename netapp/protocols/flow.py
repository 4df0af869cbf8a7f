"""Back-pressure and the orderly end of a TCP connection whose answers follow from what it reads.

A peer that sends and does not read makes our answers pile up. So nothing more is read from it while the transport's
write buffer is full: :class:`Flow` is registered with the transport as the producer of what we write, and pausing it
pauses reading. What is held for one connection is then the transport's buffer, a mark and one read's answers over it.

An end needs as much care as a beginning. A socket that is closed while input is unread makes the kernel send RST, and
an RST throws away what the peer has received and not yet read: the very answer that says why we close. Therefore
:meth:`Flow.finish` writes everything out, closes our side only, and reads on into nothing until the peer has closed
its own or a short time is over (RFC 9112 §9.6 asks the same of HTTP; nginx calls it ``lingering_close``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet.interfaces import IPushProducer, ISSLTransport, ITCPTransport
from zope.interface import implementer

from netapp.timers import NEVER, Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

LINGER: Final = 2.0
"""Seconds for the peer to take our last words and close its side; RFC 9112 §9.6, and nginx waits 5 s at a time."""


class Wire(Protocol):
    """What is used of a transport: ITransport, IConsumer and IPushProducer together, as Twisted's stream ones are."""

    def write(self, data: bytes, /) -> object:
        """See ITransport."""

    def loseConnection(self) -> object:
        """See ITransport."""

    def loseWriteConnection(self) -> object:
        """See ITCPTransport: asked only of a transport that provides it."""

    def registerProducer(self, producer: IPushProducer, streaming: bool, /) -> object:  # noqa: FBT001 - Twisted's
        """See IConsumer."""

    def unregisterProducer(self) -> object:
        """See IConsumer."""

    def pauseProducing(self) -> object:
        """See IPushProducer: stop reading."""

    def resumeProducing(self) -> object:
        """See IPushProducer: read again."""


@implementer(IPushProducer)
class Flow:
    """Couples the two directions of the connection that ``wire`` carries.

    A protocol that may be left with input it has not worked through calls :meth:`hold`; while it does, ``room`` is
    called each time that the write buffer has emptied, in place of reading on.
    """

    __slots__ = ("_held", "_room", "_timers", "_wire", "closing", "deadline", "full", "slot")

    def __init__(self, wire: Wire, timers: Timers, room: Callable[[], None] | None = None) -> None:
        self._wire = wire
        self._timers = timers
        self._room = room
        self._held = False
        self.full = False
        """The write buffer is over its mark."""
        self.closing = False
        """The end has begun: nothing more is to be written."""
        self.deadline = NEVER
        self.slot = 0
        wire.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature: a streaming producer

    def hold(self) -> None:
        """Stop reading, until :meth:`release`."""
        if not self._held and not self.closing:
            self._held = True
            self._wire.pauseProducing()

    def release(self) -> None:
        """Read on, as soon as there is room for the answers."""
        if self._held and not self.closing:
            self._held = False
            if not self.full:
                self._wire.resumeProducing()

    def pauseProducing(self) -> None:
        """Stop reading: the write buffer is full."""
        self.full = True
        self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: the write buffer has emptied."""
        self.full = False
        if not self._held:
            self._wire.resumeProducing()
        elif self._room is not None:
            self._room()

    def stopProducing(self) -> None:
        """Nothing more is wanted: the connection is lost."""
        self.lost()

    def close(self) -> None:
        """Write everything out and close. For when nothing can come in any more: the peer has closed its side."""
        self._leave()
        self._wire.loseConnection()

    def finish(self, linger: float = LINGER) -> None:
        """Write everything out, close our side, and give the peer ``linger`` seconds to close its own.

        The protocol ignores what still comes in, and passes ``writeConnectionLost`` on to :meth:`flushed` and
        ``readConnectionLost`` to :meth:`close`. TLS says goodbye in its own way, without half-closing.
        """
        if self.closing:
            return
        paused = self._held or self.full
        self._leave()
        if linger and _half_closes(self._wire):
            # Not a byte is read before ours are out: it could only be answered, and so put the end off.
            self._wire.pauseProducing()
            self._wire.loseWriteConnection()
            self._timers.arm(self, self._timers.now() + linger)
            return
        if paused:
            # A TLS transport waits for the peer's goodbye, which it must be able to read.
            self._wire.resumeProducing()
        self._wire.loseConnection()

    def flushed(self) -> None:
        """Our side is closed and everything is out: read on, to learn of the peer's end."""
        self._wire.resumeProducing()

    def lost(self) -> None:
        """Let go of everything: the connection is gone."""
        self.closing = True
        self._room = None
        if self.slot:
            self._timers.disarm(self)

    def expired(self, now: float) -> None:  # noqa: ARG002 - the wheel's signature
        """Close: the peer has had its time."""
        self._wire.loseConnection()

    def _leave(self) -> None:
        # A transport that closes waits for its producer to be done, so a registered one would keep it open.
        if not self.closing:
            self.closing = True
            self._wire.unregisterProducer()


def _half_closes(wire: object) -> bool:
    return ITCPTransport.providedBy(wire) and not ISSLTransport.providedBy(wire)


def default_clock() -> IReactorTime:
    """Return the global reactor, for whoever brought no clock; imported only now, so that a program may choose it."""
    from twisted.internet import reactor  # noqa: PLC0415 - see the docstring

    return cast("IReactorTime", reactor)
