"""What an endpoint's author writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from netapp.protocols.websocket.socket import WebSocket


class WebSocketService:
    """The other side of every connection of one endpoint; a subclass overrides what it needs.

    Each method may return None, a Deferred or a coroutine. For one socket they run one at a time, in order: the next
    message is delivered when the handler of the last one is done. An exception in one of them is logged and closes
    that one connection with 1011.
    """

    def on_open(self, socket: WebSocket) -> Awaitable[object] | None:
        """Greet a client whose handshake is complete. No message is delivered until this is done."""

    def on_message(self, socket: WebSocket, message: str | bytes) -> Awaitable[object] | None:
        """Take a message: ``str`` from a text message, ``bytes`` from a binary one."""

    def on_close(self, socket: WebSocket, code: int, reason: str) -> Awaitable[object] | None:
        """Take leave: the connection is gone; called once for each ``on_open``, and last.

        ``code`` and ``reason`` are those of the Close frame that began the end, the client's or ours; 1005 when the
        client's named none, and 1006 when the connection was lost without one (RFC 6455 §7.4.1).
        """


class EchoService(WebSocketService):
    """Sends every message back."""

    def on_message(self, socket: WebSocket, message: str | bytes) -> Awaitable[object] | None:
        """Send it back, and take the next one when there is room for its answer."""
        return socket.send(message)
