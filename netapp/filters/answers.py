"""What filters do with a responder's answer, be it here already or still to be waited for.

A plain Response is handed on in the same call: no Deferred, no Task, one ``isinstance``.

A filter adds its fields to the Response that it was given. A responder therefore gives each request a Response of its
own; one that is given out again and again still carries each field once, the latest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred

from netapp.http.headers import encode_name, encode_value
from netapp.http.message import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from netapp.http.message import Request
    from netapp.http.responder import Answer, Filter, Responder

Field = tuple[bytes, bytes]


def then(answer: Answer, change: Callable[[Response], Response]) -> Answer:
    """Apply ``change`` to a response: at once to a plain one, later to one that is waited for."""
    if isinstance(answer, Response):
        return change(answer)
    return waited(answer).addCallback(_changed, change)


def waited(answer: Awaitable[Response]) -> Deferred[Response]:
    """Return the Deferred of an answer that is no plain Response; a coroutine begins to run here.

    Raises :class:`twisted.internet.defer.NotACoroutineError` for anything else, which is the responder's defect.
    """
    if isinstance(answer, Deferred):
        return answer
    return Deferred.fromCoroutine(cast("Any", answer))


def set_field(response: Response, field: Field) -> None:
    """Give ``response`` a header field, in wire form, in place of those of the same name."""
    raw = response.headers.raw
    name = field[0]
    for pair in raw:
        if pair[0] == name:
            raw[:] = [other for other in raw if other[0] != name]
            break
    raw.append(field)


def with_fields(fields: Iterable[tuple[str, str]]) -> Filter:
    """Set these header fields in every response, error pages included; ValueError when one is malformed."""
    wire = tuple((encode_name(name), encode_value(value)) for name, value in fields)

    def around(responder: Responder) -> Responder:
        def answer(request: Request) -> Answer:
            request.error_fields += wire
            return then(responder(request), added)

        return answer

    def added(response: Response) -> Response:
        for field in wire:
            set_field(response, field)
        return response

    return around


def _changed(answer: object, change: Callable[[Response], Response]) -> Response:
    # what is no Response passes as it is: the protocol that sends it says so best
    return change(answer) if isinstance(answer, Response) else cast("Response", answer)
