"""The calculator: protocol buffers in frames, each :class:`ClientMessage` answered by one :class:`ServerMessage`.

==================================== =========================================== ===========
what arrives                         what is answered                            then
==================================== =========================================== ===========
``echo_message``                     ``echo_message`` with the same content      goes on
``add_request``                      ``add_response``                            goes on
a sum outside int32                  error ``OVERFLOW``                          goes on
not a ClientMessage                  error ``MALFORMED``                         goes on
a string that is not UTF-8           error ``INVALID_UTF8``                      goes on
no member of the oneof               error ``EMPTY``                             goes on
a frame over ``max_frame``           error ``FRAME_TOO_LARGE``                   closes
a length that is none                error ``BAD_LENGTH``                        closes
a frame not completed in time        error ``FRAME_TIMEOUT``                     closes
the peer's end inside a frame        error ``TRUNCATED``                         closes
==================================== =========================================== ===========

Answers come in the order of the requests. Where it goes on, the frames' boundaries are known and the next request is
answered as if nothing had been; where it closes, what follows in the stream has no meaning and is ignored.

All answers to one turn leave in one write. A turn is what one read brought, up to ``TURN`` bytes of it; with more, the
rest waits while every other connection has its turn, and nothing is read meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from msgspec import Struct
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from netapp.errors import DeadlineExceeded, Draining, LimitExceeded, NetappError, PeerAborted
from netapp.protocols.calculator_pb2 import AddRequest, AddResponse, ClientMessage, ErrorResponse, ServerMessage
from netapp.protocols.flow import LINGER, Flow, Wire, default_clock
from netapp.protocols.framing import FRAMERS, HEADERS, Framing
from netapp.telemetry.metrics import Registry
from netapp.timers import NEVER, Timers
from netapp.units import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

TURN: Final = 16 * 1024
"""Bytes. The smallest frame has one byte and its answer 24, so a turn writes less than 0.5 MiB and takes some 10 ms."""

_LARGEST_MESSAGE: Final = 2**31 - 1
"""https://protobuf.dev/programming-guides/proto-limits/#total."""

_LENGTH_DELIMITED: Final = 2
"""The wire type of strings and messages: https://protobuf.dev/programming-guides/encoding/#structure."""

_TEXTS: Final = {
    ErrorResponse.MALFORMED: "the frame is not a ClientMessage",
    ErrorResponse.INVALID_UTF8: "a string is not UTF-8",
    ErrorResponse.EMPTY: "no request is set",
    ErrorResponse.OVERFLOW: "the sum does not fit int32",
}


class CalculatorPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the calculator takes from a peer."""

    framing: Framing = "varint"
    """How a message's length is written before it: ``varint``, as protobuf's own delimited input and output do, or
    ``int32``, four bytes big-endian, as Twisted's Int32StringReceiver does."""
    max_frame: Size = 64 * 1024
    """The largest message, in bytes, without its length. More is refused before it is buffered. The default leaves
    room for a long echo, and 10,000 connections can make us hold no more than 640 MiB."""
    frame_timeout: Duration = 30.0
    """Seconds from the first byte of a message to its last. Bytes that trickle in do not put it off; 0 for no limit.
    The default is what a silent HTTP body is given, too."""
    linger: Duration = LINGER
    """Seconds that a peer has to read our last answer and close, once we have closed our side; 0 closes at once, and
    may cost the peer that answer. RFC 9112 §9.6 has the reason."""

    def __post_init__(self) -> None:
        """Refuse limits that cannot be meant."""
        if not 1 <= self.max_frame <= _LARGEST_MESSAGE:
            raise ValueError(f"max_frame is {self.max_frame}; expected 1 to {_LARGEST_MESSAGE}, protobuf's own limit")


class Answers:
    """Turns frames into framed answers, and counts them in ``registry`` by kind. Shared by all connections."""

    def __init__(self, framing: Framing, registry: Registry) -> None:
        self._headers = HEADERS[framing]
        counted = registry.counter("netapp_calculator_messages_total", "Answers of the calculator.", ["kind"])
        self._added = counted.child("add")
        self._echoed = counted.child("echo")
        self._refused = counted.child("error")
        self._sum = ServerMessage(add_response=AddResponse())
        self._result = self._sum.add_response
        self._refusals = {code: self._frame(_error(code, text)) for code, text in _TEXTS.items()}

    def answer(self, frames: Iterable[bytes]) -> bytes:
        """Answer each frame, in order, in one piece."""
        # One message is parsed into again and again, which is twice as fast as a new one each time; but not for
        # longer than a turn, because the memory it takes for each parse is freed only with the message itself.
        request = ClientMessage()
        answers = []
        for frame in frames:
            try:
                request.ParseFromString(frame)
            except DecodeError:
                answers.append(self._refuse(_diagnose(frame)))
                continue
            kind = request.WhichOneof("message")
            if kind == "add_request":
                answers.append(self._add(request.add_request))
            elif kind == "echo_message":
                answers.append(self._echo(request))
            else:
                answers.append(self._refuse(ErrorResponse.EMPTY))
        return b"".join(answers)

    def refusal(self, code: ErrorResponse.Code, text: str) -> bytes:
        """Return a framed error that has a text of its own."""
        self._refused.value += 1
        return self._frame(_error(code, text))

    def _add(self, request: AddRequest) -> bytes:
        try:
            # An int32 field takes nothing larger, and an assignment leaves no memory behind.
            self._result.result = request.a + request.b
        except ValueError:
            return self._refuse(ErrorResponse.OVERFLOW)
        self._added.value += 1
        return self._frame(self._sum)

    def _echo(self, request: ClientMessage) -> bytes:
        # The echo is field 1 of both messages and of the same type: what was asked is the answer, less what we do not
        # know, which might mean something in a ServerMessage.
        request.DiscardUnknownFields()
        self._echoed.value += 1
        return self._frame(request)

    def _refuse(self, code: ErrorResponse.Code) -> bytes:
        self._refused.value += 1
        return self._refusals[code]

    def _frame(self, message: ClientMessage | ServerMessage) -> bytes:
        payload = message.SerializeToString()
        return self._headers[len(payload)] + payload


def _error(code: ErrorResponse.Code, text: str) -> ServerMessage:
    return ServerMessage(error_response=ErrorResponse(code=code, text=text))


def _diagnose(frame: bytes) -> ErrorResponse.Code:
    """Say why protobuf refused ``frame``: it reports bad text and a bad structure in the same words.

    Parsed as a message without fields, everything is an unknown field, and strings are not judged.
    """
    try:
        texts = [text for echo in _nested(frame) for text in _nested(echo)]
    except DecodeError:
        return ErrorResponse.MALFORMED
    try:
        for text in texts:
            text.decode()
    except UnicodeDecodeError:
        return ErrorResponse.INVALID_UTF8
    return ErrorResponse.MALFORMED


def _nested(message: bytes) -> list[bytes]:
    """Return the contents of every length-delimited field 1 of ``message``; DecodeError if it is not a message."""
    unknown = UnknownFieldSet(Empty.FromString(message))
    fields = [unknown[index] for index in range(len(unknown))]
    return [field.data for field in fields if (field.field_number, field.wire_type) == (1, _LENGTH_DELIMITED)]


@implementer(IHalfCloseableProtocol)
class Calculator(Protocol):
    """One connection to the calculator.

    Input that has arrived and had no turn yet is the backlog. While there is one, or while answers find no room,
    nothing is read, so that it holds one read at most.
    """

    transport: Wire  # type: ignore[assignment]  # narrower than the base's: a stream transport, there once connected
    ending: NetappError | None = None
    deadline: float = NEVER
    slot: int = 0
    _flow: Flow
    _backlog: bytearray | None = None
    _turn: IDelayedCall | None = None
    _peer_ended: bool = False

    def __init__(self, policy: CalculatorPolicy, answers: Answers, timers: Timers, clock: IReactorTime) -> None:
        self._policy = policy
        self._answers = answers
        self._timers = timers
        self._clock = clock
        self._framer = FRAMERS[policy.framing](policy.max_frame)

    @property
    def state(self) -> str:
        """``idle`` between two requests, else ``active`` or ``closing``."""
        if not self.connected or self._flow.closing:
            return "closing"
        return "idle" if self._framer.idle and self._backlog is None and not self._flow.full else "active"

    def connectionMade(self) -> None:
        """Tie reading to the room for answers."""
        self._flow = Flow(self.transport, self._timers, self._take_turn)

    def dataReceived(self, data: bytes) -> None:
        """Answer the requests that ``data`` completes. No input makes this raise."""
        if self._backlog is not None or len(data) > TURN:
            self._wait(data)
        else:
            self._consume(data)

    def drain(self) -> None:
        """Answer every request that has arrived whole, then close."""
        if self.connected and not self._flow.closing:
            self.ending = Draining()
            self._if_all_is_answered_end()

    def readConnectionLost(self) -> None:
        """The peer has asked all it wants to: answer it, then close."""
        self._peer_ended = True
        if self._flow.closing:
            self._flow.close()
        else:
            self._if_all_is_answered_end()

    def writeConnectionLost(self) -> None:
        """Our side is closed."""
        self._flow.flushed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self.ending is None and self._framer.unfinished and reason.check(ConnectionDone):
            self.ending = _truncated()
        self._drop_input()
        self._flow.lost()

    def expired(self, now: float) -> None:
        """The frame that has begun was not completed in time."""
        if self._flow.full or self._backlog is not None:
            # It is we who are not reading.
            self._timers.arm(self, now + self._policy.frame_timeout)
            return
        text = f"a frame was not completed within {self._policy.frame_timeout:g} s (frame_timeout)"
        self._refuse(ErrorResponse.FRAME_TIMEOUT, DeadlineExceeded("frame_timeout", text))

    def _consume(self, data: bytes) -> None:
        framer = self._framer
        frames = framer.feed(data)
        if frames:
            self.transport.write(self._answers.answer(frames))
        if framer.idle:
            self.deadline = NEVER
        else:
            self._stand_inside_frame(new=bool(frames))

    def _stand_inside_frame(self, *, new: bool) -> None:
        """``data`` ended inside a frame, and a ``new`` one if it completed others; or no more can be read at all."""
        failure = self._framer.failure
        if failure is None:
            timeout = self._policy.frame_timeout
            if timeout and self._framer.unfinished and (new or self.deadline == NEVER):
                self._timers.arm(self, self._timers.now() + timeout)
        elif not self._flow.closing:
            too_large = isinstance(failure, LimitExceeded)
            self._refuse(ErrorResponse.FRAME_TOO_LARGE if too_large else ErrorResponse.BAD_LENGTH, failure)

    def _wait(self, data: bytes) -> None:
        if self._backlog is not None:
            self._backlog += data
        elif not self._flow.closing:
            self._backlog = bytearray(data)
            self._flow.hold()
            self._take_turn()

    def _take_turn(self) -> None:
        """Answer the next part of the backlog; for the one after it, let every other connection go first."""
        self._turn = None
        if self._backlog is None:
            return
        data = bytes(self._backlog[:TURN])
        del self._backlog[:TURN]
        self._consume(data)
        if self._backlog:
            if not self._flow.full:
                self._turn = self._clock.callLater(0, self._take_turn)
        elif self._backlog is not None:
            self._backlog = None
            self._if_all_is_answered_end()

    def _if_all_is_answered_end(self) -> None:
        """Go on reading, or close if no more input is to be answered: the peer has ended, or we are draining."""
        if self._backlog is not None:
            return
        if self.ending is None and not self._peer_ended:
            self._flow.release()
        elif self.ending is None and self._framer.unfinished:
            self._refuse(ErrorResponse.TRUNCATED, _truncated())
        else:
            self._close()

    def _refuse(self, code: ErrorResponse.Code, ending: NetappError) -> None:
        """Say why nothing more will be read, and close."""
        self.ending = ending
        self._drop_input()
        self.transport.write(self._answers.refusal(code, str(ending)))
        self._close()

    def _close(self) -> None:
        self._drop_input()
        if self._peer_ended:
            self._flow.close()
        else:
            self._flow.finish(self._policy.linger)

    def _drop_input(self) -> None:
        self._framer.stop()
        self._backlog = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self.slot:
            self._timers.disarm(self)


def _truncated() -> PeerAborted:
    return PeerAborted("the peer closed in the middle of a frame")


class CalculatorFactory(Factory):
    """Makes :class:`Calculator`.

    ``clock`` is the reactor, the global one if it is left out; ``timers`` are made on it if they are left out.
    Answers are counted in ``registry`` as ``netapp_calculator_messages_total`` with ``kind`` add, echo or error.
    """

    noisy = False

    def __init__(
        self,
        policy: CalculatorPolicy | None = None,
        timers: Timers | None = None,
        registry: Registry | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self._policy = policy or CalculatorPolicy()
        self._timers = timers
        self._clock = clock
        self._answers = Answers(self._policy.framing, registry or Registry())

    def buildProtocol(self, addr: IAddress | None) -> Calculator:  # noqa: ARG002 - every address is served alike
        """Make the protocol of one connection."""
        if self._clock is None:
            self._clock = default_clock()
        if self._timers is None:
            self._timers = Timers(self._clock)
        protocol = Calculator(self._policy, self._answers, self._timers, self._clock)
        protocol.factory = self
        return protocol
