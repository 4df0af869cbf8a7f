"""netapp: hardened HTTP, WebSocket and TCP services on Twisted."""

__version__ = "0.1.0"
