"""The request plane: messages, responders, filters' composition and routing. Pure: no Twisted and no sockets.

Nothing here knows which version of HTTP carried a request: connection, chunk and keep-alive are words of
:mod:`netapp.protocols.http1` alone.
"""

from netapp.http.errors import HttpError
from netapp.http.headers import Headers
from netapp.http.message import Request, Response, Upgrade
from netapp.http.responder import Filter, Responder, compose
from netapp.http.router import Router

__all__ = ["Filter", "Headers", "HttpError", "Request", "Responder", "Response", "Router", "Upgrade", "compose"]
