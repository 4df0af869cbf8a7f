"""Which protocol a connection speaks, decided by its first bytes, however they are split.

A detector is a pure function of the bytes received so far, and its verdict is final: once YES or NO for some bytes, it
stays so for whatever follows them. From that one rule it follows that the decision never depends on how the network
cut the stream. :class:`Detection` asks detectors in the order of its routes; the first YES wins, provided that all
earlier ones have said NO: an earlier MORE holds the decision back, because order is the operator's will.

=================== ==================================================== =====
name                what it looks at                                     bytes
=================== ==================================================== =====
tls                 a handshake record that begins with a ClientHello        6
http1               a method and a space                               2 to 33
http2               the connection preface                                  24
calculator_varint   a length, and one message that fills it exactly     3 to 9
calculator_int32    a length, and one message that fills it exactly     6 to 9
=================== ==================================================== =====

No stream is claimed by two of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct

from netapp.errors import DeadlineExceeded, ProtocolViolation
from netapp.units import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Verdict(Enum):
    """What a detector says of the bytes so far."""

    YES = "yes"
    NO = "no"
    MORE = "more"
    """They may still become either."""


class Detector(Protocol):
    """A pure function of all bytes received so far, from the first; MORE for none, and YES and NO are final."""

    def __call__(self, data: bytes, /) -> Verdict:
        """Judge ``data``. It must not raise."""


def starts_with(data: bytes, expected: bytes) -> Verdict:
    """Say whether ``data`` begins with ``expected``: the whole of many a detector."""
    if data.startswith(expected):
        return Verdict.YES
    return Verdict.MORE if expected.startswith(data) else Verdict.NO


# TLS

_HANDSHAKE_RECORD = b"\x16\x03"
_NEWEST_MINOR = 4
_LONGEST_RECORD = 2**14
_CLIENT_HELLO = b"\x01"


def tls(data: bytes) -> Verdict:
    """A TLS handshake record that begins with a ClientHello (RFC 8446 §4.1.2 and §5.1).

    Content type 22, version 3.x, a length of 1 to 2**14 bytes and message type 1. A ClientHello that is cut into
    several records still begins so.
    """
    verdict = starts_with(data, _HANDSHAKE_RECORD)
    if verdict is not Verdict.YES:
        return verdict
    minor, length = data[2:3], data[3:5]
    if minor and minor[0] > _NEWEST_MINOR:
        return Verdict.NO
    if data[4:5] and not 0 < int.from_bytes(length, "big") <= _LONGEST_RECORD:
        return Verdict.NO
    return starts_with(data[5:], _CLIENT_HELLO)


# HTTP

_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")


def http1(data: bytes) -> Verdict:
    """An HTTP/1 request line: a method, which is a token (RFC 9110 §5.6.2 and §9.1), and a space (RFC 9112 §3).

    The token has at most 32 bytes; the longest one registered, ``UPDATEREDIRECTREF``, has 17. ``PRI`` is reserved for
    the HTTP/2 preface (RFC 9113 §11.6) and never HTTP/1. An empty line before the first request is not looked past.
    A line of text of another protocol (``EHLO there``) has this form too: give such a protocol an earlier route.
    """
    if not data:
        return Verdict.MORE
    found = _METHOD.match(data)
    if found is None:
        return Verdict.NO
    end = found.end()
    if end == len(data):
        return Verdict.MORE
    return Verdict.YES if data[end:].startswith(b" ") and data[:end] != b"PRI" else Verdict.NO


def http2(data: bytes) -> Verdict:
    """The 24 bytes that open an HTTP/2 connection without TLS, or within it (RFC 9113 §3.4)."""
    return starts_with(data, _HTTP2_PREFACE)


# The calculator: protocol buffers behind a length

_MESSAGE_TAGS = (b"\x0a", b"\x12")
"""Fields 1 and 2 of ``ClientMessage``, EchoMessage and AddRequest, both length-delimited: ``number << 3 | 2``."""

_LONGEST_FRAME = 2**24 - 1
"""Bytes. What a client begins with is far smaller; the bound makes each framing's first bytes telling."""

_SHORTEST_FRAME = 2
"""Bytes: a tag, and the length 0 of a message whose fields all have their default values."""

_LONGEST_VARINT = 4
"""Bytes: what :data:`_LONGEST_FRAME` takes, seven bits in each."""

_SEVEN_BITS = 0x7F
_CONTINUES = 0x80
_INT32 = 4


def calculator_varint(data: bytes) -> Verdict:
    """Calculator frames with a varint length.

    The length, then the tag of one of the two messages, then that message's own length, which has to fill the frame
    exactly. A frame of no bytes says nothing of what it belongs to, and an int32 length begins with the same zero:
    a stream that starts with one is not claimed.
    """
    for index, byte in enumerate(data[:_LONGEST_VARINT]):
        if byte < _CONTINUES:
            end = index + 1
            return _is_filled(_read_varint(data[:end]), data[end:]) if byte else Verdict.NO
    return Verdict.MORE if len(data) < _LONGEST_VARINT else Verdict.NO


def calculator_int32(data: bytes) -> Verdict:
    """Calculator frames with a big-endian 4-byte length; an empty first frame is not claimed here either.

    A frame under 16 MiB begins with a zero byte, which no other protocol here does.
    """
    if data[:1] not in {b"", b"\x00"}:
        return Verdict.NO
    if len(data) < _INT32:
        return Verdict.MORE
    return _is_filled(int.from_bytes(data[:_INT32], "big"), data[_INT32:])


def _is_filled(length: int, payload: bytes) -> Verdict:
    """Say whether a frame of ``length`` bytes that begins with ``payload`` holds one message and nothing else."""
    expected = _sole_length(length)
    if expected is None:
        return Verdict.NO
    if not payload:
        return Verdict.MORE
    return starts_with(payload[1:], expected) if payload[:1] in _MESSAGE_TAGS else Verdict.NO


def _sole_length(frame: int) -> bytes | None:
    """Return the varint that follows the tag of a message that fills ``frame`` bytes; None where none can."""
    if not _SHORTEST_FRAME <= frame <= _LONGEST_FRAME:
        return None
    for size in range(1, _LONGEST_VARINT + 1):
        written = _write_varint(frame - 1 - size)
        if len(written) == size:
            return written
    return None


def _read_varint(data: bytes) -> int:
    return sum((byte & _SEVEN_BITS) << (7 * index) for index, byte in enumerate(data))


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number > _SEVEN_BITS:
        written.append(number & _SEVEN_BITS | _CONTINUES)
        number >>= 7
    written.append(number)
    return bytes(written)


# Names


class Detectors(Mapping[str, Detector]):
    """Detectors by name, as the configuration writes them."""

    def __init__(self, known: Mapping[str, Detector]) -> None:
        self._known = dict(known)

    def register(self, name: str, detector: Detector) -> None:
        """Add a detector. ValueError where the name is taken: a plugin must not change what a name means."""
        if name in self._known:
            raise ValueError(f"a detector named {name!r} is registered already")
        self._known[name] = detector

    def named(self, name: str) -> Detector:
        """Return the detector of that name; ValueError, with the nearest name that exists, where there is none."""
        found = self._known.get(name)
        if found is None:
            near = get_close_matches(name, self._known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self._known))}"
            raise ValueError(f"there is no detector named {name!r}: {hint}")
        return found

    def __getitem__(self, name: str) -> Detector:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


DETECTORS = Detectors(
    {
        "tls": tls,
        "http1": http1,
        "http2": http2,
        "calculator_varint": calculator_varint,
        "calculator_int32": calculator_int32,
    }
)
"""What the configuration can name. A plugin adds its own with :func:`register`."""

register = DETECTORS.register


# The decision


class DetectPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long, and over how many bytes, a port that serves several protocols listens before it decides."""

    timeout: Duration = 3.0
    """Seconds from the moment that the connection could be read until the protocol must be known. The default covers
    one TCP retransmission, which the PROXY protocol's specification (§2) gives at least 3 s for the same wait."""
    on_timeout: Literal["fallback", "close"] = "fallback"
    """What becomes of a connection that stays undecided: ``fallback`` hands it to the port's fall-back protocol, which
    suits a peer that waits for the server to speak first, and closes it where the port has none; ``close`` always
    closes it."""
    max_bytes: Size = 1024
    """Bytes after which the protocol must be known: no detector sees more, and one that still asks for more has said
    no. The built-in ones need 33 at most."""

    def __post_init__(self) -> None:
        """Refuse a policy under which nothing can be decided."""
        if self.timeout <= 0:
            raise ValueError("detection needs a timeout above 0")
        if self.max_bytes < 1:
            raise ValueError("detection needs max_bytes of at least 1")


_DEFAULT_POLICY = DetectPolicy()


class Detection:
    """The protocols of one port: ``routes`` in order, each a name and its detector, and the ``fallback``'s name.

    The names are the caller's: what :meth:`decide` returns. ValueError where there is neither a route nor a fall-back.
    """

    def __init__(
        self,
        routes: Sequence[tuple[str, Detector]],
        fallback: str | None = None,
        policy: DetectPolicy = _DEFAULT_POLICY,
    ) -> None:
        if not routes and fallback is None:
            raise ValueError("detection needs a route or a fallback")
        self.routes = tuple(routes)
        self.fallback = fallback
        self.policy = policy

    def decide(self, data: bytes) -> str | None:
        """Return the name of the protocol that ``data``, all bytes so far, begins; None where it takes more to know.

        Raises ProtocolViolation where no route claims them and there is no fall-back.
        """
        limit = self.policy.max_bytes
        verdict, name = self._claim(data[:limit], final=len(data) >= limit)
        if verdict is Verdict.YES:
            return name
        if verdict is Verdict.MORE:
            return None
        if self.fallback is None:
            offered = ", ".join(route for route, _ in self.routes)
            raise ProtocolViolation(f"the first bytes fit no protocol of this port ({offered})")
        return self.fallback

    def expire(self, data: bytes) -> str:
        """Return the name of the protocol to use now that the timeout has passed with no more than ``data`` received.

        That is a route which claims these bytes, though an earlier one still asked for more; else the fall-back, if
        the policy says so. Raises DeadlineExceeded where the connection is to be closed.
        """
        verdict, name = self._claim(data[: self.policy.max_bytes], final=True)
        if verdict is Verdict.YES:
            return name
        if self.fallback is None or self.policy.on_timeout == "close":
            raise DeadlineExceeded("detect", f"no protocol was recognised within {self.policy.timeout:g} s")
        return self.fallback

    def _claim(self, data: bytes, *, final: bool) -> tuple[Verdict, str]:
        for name, detector in self.routes:
            verdict = detector(data)
            if verdict is Verdict.YES or (verdict is Verdict.MORE and not final):
                return verdict, name
        return Verdict.NO, ""
