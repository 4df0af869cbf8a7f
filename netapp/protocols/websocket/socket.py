"""A WebSocket as its service sees it, and the sending half of its back-pressure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from netapp.errors import End, LimitExceeded, NetappError

if TYPE_CHECKING:
    from netapp.http.message import Request
    from netapp.peer import Peer
    from netapp.protocols.websocket.connection import WebSocketConnection

TRY_AGAIN_LATER = 1013
_SENDABLE = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_OWN_CODES = range(3000, 5000)


class SocketClosed(NetappError):  # noqa: N818 - says what happened
    """Nothing can be sent any more: the connection is closed, or closing."""

    end = End.LOCAL_DONE


class _Delivery(Deferred[None]):
    """A message on its way to the client."""

    def refuse(self) -> _Delivery:
        """Fail, without a complaint in the log where nobody has looked: senders may lose a race with the end."""
        self.errback(SocketClosed("the connection is closed"))
        if self._debugInfo is not None:
            self._debugInfo.failResult = None
        return self


class WebSocket:
    """One client of a service.

    ``request`` is the HTTP request that it began with, ``peer`` the other end, and ``subprotocol`` the one agreed upon.
    """

    __slots__ = ("_connection", "_unsent", "_unsent_bytes", "_waiting", "peer", "request", "subprotocol")

    def __init__(self, connection: WebSocketConnection, request: Request, subprotocol: str | None) -> None:
        self._connection = connection
        self._unsent = 0
        self._unsent_bytes = 0
        self._waiting: list[_Delivery] = []
        self.peer: Peer = request.peer
        self.request = request
        self.subprotocol = subprotocol

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._connection.state == "open"

    def send(self, message: str | bytes) -> Deferred[None]:
        """Send a text message (``str``) or a binary one (``bytes``).

        The Deferred fires at once while the client keeps up; when it does not, as soon as it has read what was sent
        before. It fails with SocketClosed when the connection ends first, or has ended. It may be ignored, but a client
        that lets more than the policy's queue pile up is then closed with 1013. Raises TypeError for anything else than
        text or bytes, and ValueError for text with lone surrogates.
        """
        text = isinstance(message, str)
        payload = message.encode() if isinstance(message, str) else bytes(memoryview(message))
        connection = self._connection
        if connection.state != "open" or (connection.full and not self._fits(len(payload))):
            return _Delivery().refuse()
        connection.send(payload, binary=not text)
        if not connection.full:
            return succeed(None)
        delivery = _Delivery()
        self._waiting.append(delivery)
        return delivery

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Begin the closing handshake; messages that the client has sent in the meantime are dropped.

        ``reason`` is cut at 123 bytes of UTF-8. Raises ValueError for a code that must not be sent (RFC 6455 §7.4).
        """
        if code not in _SENDABLE and code not in _OWN_CODES:
            raise ValueError(f"{code} is not a code to close with")
        self._connection.close(code, reason)

    def emptied(self) -> None:
        """All that was sent has left: go on."""
        self._unsent = self._unsent_bytes = 0
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            delivery.callback(None)

    def lost(self) -> None:
        """Nothing more will be delivered."""
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            delivery.refuse()

    def _fits(self, size: int) -> bool:
        """Count a message that has to wait; close a client that lets too many of them wait."""
        policy = self._connection.policy
        self._unsent += 1
        self._unsent_bytes += size
        if self._unsent <= policy.queue_messages and self._unsent_bytes <= policy.queue_bytes:
            return True
        self._connection.close(TRY_AGAIN_LATER, "reading too slowly", LimitExceeded("websocket_queue"))
        return False

    def __repr__(self) -> str:
        return f"<WebSocket {self.peer.id} {self._connection.state}>"
