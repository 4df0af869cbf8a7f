"""A name for every request, which its response, its log lines and its error page share."""

from __future__ import annotations

import os
import re
from itertools import count
from typing import TYPE_CHECKING

from netapp.filters.answers import set_field, then
from netapp.http.headers import encode_name
from netapp.http.message import Response

if TYPE_CHECKING:
    from netapp.http.message import Request
    from netapp.http.responder import Answer, Filter, Responder

_TAKEN_OVER = re.compile(r"[A-Za-z0-9._~+/=:@-]{1,128}")
"""What a trusted client may call its request: it ends up in logs and in a header, and so has no white space, quotes
or control characters; 128 characters hold a W3C traceparent (55) and the identifiers of the usual load balancers."""


def request_id(header: str = "x-request-id", *, trusted: bool = False) -> Filter:
    """Give each request an ``id`` and tell the client in ``header``, in error pages too.

    The id is a random prefix of 64 bits, made when the filter is, and a counter: unique, but no secret, for who sees
    one can guess the next. ``trusted`` takes over the id that the request carries, where it is one field of at most
    128 characters from a strict set; say so only where every client is a proxy of yours. ValueError when ``header``
    is no field name.
    """
    name = encode_name(header)
    prefix = os.urandom(8).hex()
    following = count(1).__next__

    def around(responder: Responder) -> Responder:
        def answer(request: Request) -> Answer:
            ident = (_carried(request, header) if trusted else None) or f"{prefix}-{following()}"
            request.id = ident
            field = (name, ident.encode())
            try:
                given = responder(request)
            except Exception:
                request.error_fields += (field,)
                raise
            if isinstance(given, Response):  # what `then` does, without the price of a closure
                set_field(given, field)
                return given
            request.error_fields += (field,)
            return then(given, lambda response: _marked(response, field))

        return answer

    return around


def _carried(request: Request, header: str) -> str | None:
    found = request.headers.get_all(header)
    return found[0] if len(found) == 1 and _TAKEN_OVER.fullmatch(found[0]) else None


def _marked(response: Response, field: tuple[bytes, bytes]) -> Response:
    set_field(response, field)
    return response
