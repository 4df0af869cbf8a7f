"""Send one message over WebSocket and print what comes back: ``websocket_client.py URL TEXT``."""

import sys

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
from twisted.internet import reactor


class Client(WebSocketClientProtocol):
    def onOpen(self):
        self.sendMessage(sys.argv[2].encode())

    def onMessage(self, payload, isBinary):
        print(payload.decode())
        self.sendClose()

    def onClose(self, wasClean, code, reason):
        reactor.stop()


factory = WebSocketClientFactory(sys.argv[1])
factory.protocol = Client
connectWS(factory)
reactor.run()
