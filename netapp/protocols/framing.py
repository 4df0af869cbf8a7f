"""Cutting a stream of bytes into frames that announce their length.

Goal
    Hand out whole frames, however the network split them; hold no more than one unfinished frame, of at most
    ``max_frame`` bytes; cost O(n) for n bytes in total, also when they arrive one by one.

Plan
    Between frames a framer keeps nothing at all, and a read that holds exactly whole frames is cut by slicing. Only
    when a read ends inside a frame does the framer remember where it stands: in the header, as the number read so far
    and how many bytes made it; in the body, as the bytes so far and how many are missing. The next read goes on from
    there: it never looks at what an earlier one has seen. A body's bytes are not looked at at all.

Complexity
    A byte is moved at most three times: out of the read, into the unfinished body (a ``bytearray``, whose growth is
    amortised), and out of it. A length over the limit is refused when its header ends, before any of the body is kept.

Two framings:

``varint``
    The length as a base-128 varint, least significant group first, which is what protobuf's own delimited input and
    output write (https://protobuf.dev/programming-guides/encoding/#varints). At most five bytes, because protobuf's
    sizes are 32 bits wide; a length written with more bytes than it needs is refused, so that every stream has one
    reading only.
``int32``
    The length as four bytes, big-endian, unsigned, which is what :class:`twisted.protocols.basic.Int32StringReceiver`
    speaks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import Struct
from typing import TYPE_CHECKING, Final, Literal

from netapp.errors import LimitExceeded, NetappError, ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Callable

Framing = Literal["varint", "int32"]

_VARINT_BYTES = 5
"""The most that a varint of 32 bits needs, at seven bits a byte."""
_INT32_BYTES = 4
_read_int32 = Struct(">I").unpack_from
_INCOMPLETE = -1
_KEPT_HEADERS = 1024


class Framer(ABC):
    """Cuts a stream into frames of at most ``max_frame`` bytes, headers not counted."""

    __slots__ = ("_body", "_limit", "_missing", "_seen", "_size", "failure", "idle")

    def __init__(self, max_frame: int) -> None:
        self._limit = max_frame
        self._seen = 0
        self._size = 0
        self._missing = 0
        self._body: bytearray | None = None
        self.idle = True
        """True between two frames; false inside one, and for good after a failure or :meth:`stop`."""
        self.failure: NetappError | None = None
        """Why the stream cannot be cut any further: LimitExceeded for a frame over the limit, ProtocolViolation for a
        length that is not one. Frames that came before it are still handed out."""

    @abstractmethod
    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived, any part of the stream; return the frames that it completed, in order.

        Nothing is raised: see :attr:`failure`. After a failure or :meth:`stop`, input is ignored.
        """

    @abstractmethod
    def _header(self, data: bytes, position: int) -> int:
        """Read on in a header; return where its body starts, with the length in ``_size``, or ``_INCOMPLETE``."""

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun and its end is awaited."""
        return self._seen > 0 or self._body is not None

    def stop(self) -> None:
        """Drop an unfinished frame and ignore all further input."""
        self.idle = False
        self._body = None
        self._seen = 0
        self._limit = -1

    def _resume(self, data: bytes, frames: list[bytes]) -> int:
        """Go on inside the frame that an earlier read began; return where the next frame starts in ``data``."""
        if self._limit < 0:
            return len(data)
        start = 0
        if self._body is None:
            start = self._header(data, 0)
            if start == _INCOMPLETE:
                return len(data)
            self._body = bytearray()
            self._missing = self._size
        stop = start + self._missing
        self._body += data[start:stop]
        if stop > len(data):
            self._missing = stop - len(data)
            return len(data)
        frames.append(bytes(self._body))
        self._body = None
        self.idle = True
        return stop

    def _begin(self, data: bytes, start: int, size: int) -> None:
        """Keep the first part of a body of ``size`` bytes, whose end has not arrived."""
        self._body = bytearray(data[start:])
        self._missing = size - len(self._body)
        self.idle = False

    def _end_header(self, position: int) -> int:
        """Accept a complete header, or refuse what it announces."""
        self._seen = 0
        if self._size > self._limit:
            text = f"a frame of {self._size} bytes is over the limit of {self._limit} (max_frame)"
            return self._fail(LimitExceeded("max_frame", text))
        return position

    def _fail(self, failure: NetappError) -> int:
        self.stop()
        self.failure = failure
        return _INCOMPLETE


class VarintFramer(Framer):
    """Frames behind a varint length."""

    __slots__ = ("_short",)

    def __init__(self, max_frame: int) -> None:
        super().__init__(max_frame)
        self._short = min(max_frame, 0x7F)

    def feed(self, data: bytes) -> list[bytes]:
        """Cut; a length of one byte, the usual one, costs one index."""
        frames: list[bytes] = []
        position = 0 if self.idle else self._resume(data, frames)
        end = len(data)
        short = self._short
        while position < end:
            size = data[position]
            start = position + 1
            if size > short:
                self._size = 0
                start = self._header(data, position)
                if start == _INCOMPLETE:
                    break
                size = self._size
            position = start + size
            if position > end:
                self._begin(data, start, size)
                break
            frames.append(data[start:position])
        return frames

    def _header(self, data: bytes, position: int) -> int:
        for index in range(position, len(data)):
            byte = data[index]
            self._size |= (byte & 0x7F) << (7 * self._seen)
            self._seen += 1
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                if byte == 0 and self._seen > 1:
                    return self._fail(ProtocolViolation("a frame's length is written with more bytes than it needs"))
                return self._end_header(index + 1)
            if self._seen == _VARINT_BYTES:
                return self._fail(ProtocolViolation(f"a frame's length is over {_VARINT_BYTES} bytes long"))
        self.idle = False
        return _INCOMPLETE


class Int32Framer(Framer):
    """Frames behind a big-endian length of four bytes."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        """Cut."""
        frames: list[bytes] = []
        position = 0 if self.idle else self._resume(data, frames)
        end = len(data)
        limit = self._limit
        while position < end:
            start = position + _INT32_BYTES
            size = _read_int32(data, position)[0] if start <= end else limit + 1
            if size > limit:
                self._size = 0
                self._header(data, position)
                break
            position = start + size
            if position > end:
                self._begin(data, start, size)
                break
            frames.append(data[start:position])
        return frames

    def _header(self, data: bytes, position: int) -> int:
        taken = data[position : position + _INT32_BYTES - self._seen]
        self._size = self._size << (8 * len(taken)) | int.from_bytes(taken, "big")
        self._seen += len(taken)
        if self._seen == _INT32_BYTES:
            return self._end_header(position + len(taken))
        self.idle = False
        return _INCOMPLETE


def _varint(size: int) -> bytes:
    written = bytearray()
    while size > 0x7F:  # noqa: PLR2004 - seven bits a byte
        written.append(size & 0x7F | 0x80)
        size >>= 7
    written.append(size)
    return bytes(written)


class Headers(dict[int, bytes]):
    """``headers[size]`` is what goes before a frame of ``size`` bytes. The small ones are written once and kept."""

    def __init__(self, write: Callable[[int], bytes]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, size: int) -> bytes:
        header = self._write(size)
        if size < _KEPT_HEADERS:
            self[size] = header
        return header


FRAMERS: Final[dict[Framing, type[Framer]]] = {"varint": VarintFramer, "int32": Int32Framer}
"""How to read each framing."""
HEADERS: Final[dict[Framing, Headers]] = {
    "varint": Headers(_varint),
    "int32": Headers(lambda size: size.to_bytes(_INT32_BYTES, "big")),
}
"""How to write each framing: ``HEADERS[framing][len(frame)] + frame``."""
