"""A request's content on its way from the connection to a responder, with back-pressure."""

from __future__ import annotations

from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from netapp.errors import NetappError
from netapp.http.errors import HttpError
from netapp.protocols.http1.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


PIECE = 64
"""Bytes that holding a piece of content takes beside its own: a client must not have us hold a flood of crumbs."""


class StreamBody:
    """The content of one request, fed by the connection and read by a responder.

    ``demand`` is called when a reader waits for more: the connection then sends ``100 Continue``, if the client is
    waiting for it, and goes on reading. ``size`` says how many bytes of memory are held, ``pace`` counts those of the
    content that ever came.
    """

    __slots__ = (
        "_chunks",
        "_demand",
        "_error",
        "_overhead",
        "_seen",
        "_waiter",
        "complete",
        "discarding",
        "pace",
        "size",
    )

    def __init__(self, demand: Callable[[], None], now: float) -> None:
        self._chunks: deque[bytes] = deque()
        self._demand = demand
        self._error: BaseException | None = None
        self._overhead = 0
        self._seen = -1
        self._waiter: Deferred[None] | None = None
        self.complete = False
        self.discarding = False
        self.pace = Pace(now)
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Take a piece of content from the connection."""
        if not self.discarding:
            self._chunks.append(data)
            self.size += len(data) + PIECE
            self._wake()

    def end(self) -> None:
        """Note that the content is complete."""
        self.complete = True
        self._wake()

    def fail(self, error: BaseException) -> None:
        """Note that the content will never be complete: every read from now on raises ``error``."""
        if not self.complete and self._error is None:
            self._error = error
            self._wake()

    def discard(self) -> None:
        """Drop what is held and what still comes: its response is over. Who reads on regardless is told."""
        self.discarding = True
        self._chunks.clear()
        self.size = 0
        self.fail(NetappError("the content was dropped, because its response was over"))

    def overhead(self, size: int) -> int:
        """Count a read of ``size`` bytes; return how many bytes came since the last read that held any content."""
        if self.pace.received != self._seen:
            self._seen = self.pace.received
            self._overhead = 0
        else:
            self._overhead += size
        return self._overhead

    async def read(self, limit: int | None = None) -> bytes:
        """Return all of the content; HttpError 413 when it has more than ``limit`` bytes."""
        content = bytearray()  # and no list: chunks of a few bytes would take twenty times their size in it
        async for chunk in self:
            content += chunk
            if limit is not None and len(content) > limit:
                raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the content is over {limit} bytes")
        return bytes(content)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                raise StopAsyncIteration
            waiter = self._waiter = Deferred()
            self._demand()
            await waiter
        chunk = self._chunks.popleft()
        self.size -= len(chunk) + PIECE
        return chunk

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)
