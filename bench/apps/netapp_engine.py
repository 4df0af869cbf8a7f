"""netapp's HTTP/1 engine as a library: ``netapp_engine.py PORT``; a router, no listener, no filters, epoll reactor."""

from __future__ import annotations

import sys

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402 - only after the reactor is chosen

from netapp.http.message import Response  # noqa: E402
from netapp.http.router import Router  # noqa: E402
from netapp.protocols.http1.factory import Http1Factory  # noqa: E402

BACKLOG = 4096


def hello(_request):
    return Response(200, b"Hello, World!", headers=[("Content-Type", "text/plain")])


if __name__ == "__main__":
    router = Router()
    router.add("/hello", hello)
    reactor.listenTCP(int(sys.argv[1]), Http1Factory(router), backlog=BACKLOG, interface="127.0.0.1")
    reactor.run()
