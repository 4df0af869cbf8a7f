"""The protocols that are spoken: HTTP/1, WebSocket, calculator, echo; each works with any Twisted endpoint."""
