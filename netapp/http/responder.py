"""The two shapes that the request plane is made of.

A Responder takes a request and returns a response, or something to wait for: a coroutine or a Deferred. A Filter takes
a Responder and returns one. A stack of filters is composed once, at start; a responder that returns a plain Response
costs neither a Deferred nor a Task on its way out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from netapp.http.message import Request, Response

Answer = Response | Awaitable[Response]
Responder = Callable[[Request], Answer]
Filter = Callable[[Responder], Responder]


def compose(responder: Responder, *filters: Filter) -> Responder:
    """Wrap ``responder`` in ``filters``; the first one is the outermost and sees the request first."""
    for outer in reversed(filters):
        responder = outer(responder)
    return responder
