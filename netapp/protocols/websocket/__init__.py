"""WebSocket (RFC 6455) behind the router: autobahn frames, netapp keeps the limits, a service has three methods.

An endpoint in ten lines::

    class Chat(WebSocketService):
        def __init__(self):
            self.sockets = set()

        def on_open(self, socket):
            self.sockets.add(socket)

        def on_message(self, socket, message):
            for other in self.sockets:
                other.send(message)

        def on_close(self, socket, code, reason):
            self.sockets.discard(socket)

    router.add("/chat", websocket_responder(Chat()))
"""

from netapp.protocols.websocket.policy import WebSocketPolicy
from netapp.protocols.websocket.responder import websocket_responder
from netapp.protocols.websocket.service import EchoService, WebSocketService
from netapp.protocols.websocket.socket import SocketClosed, WebSocket

__all__ = ["EchoService", "SocketClosed", "WebSocket", "WebSocketPolicy", "WebSocketService", "websocket_responder"]
