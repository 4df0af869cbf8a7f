"""Errors that have an HTTP status, and the one function that turns any error into a response."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from netapp.errors import DeadlineExceeded, NetappError, Rejected
from netapp.http.accept import preferred
from netapp.http.message import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netapp.http.message import Request


class HttpError(NetappError):
    """Answer the request with ``status``; ``detail`` is shown to the client, so it must tell nothing internal."""

    def __init__(self, status: int, detail: str = "", headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status} {detail}")
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)


def reason_phrase(status: int) -> str:
    """Return the registered phrase of a status code (RFC 9110 §15), or an empty string."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def status_of(error: BaseException) -> int:
    """Map an error to the status that tells the client whose turn it is.

    504 when a deadline of ours passed and 503 when we declined work (RFC 9110 §15.6), 500 for a defect.
    """
    if isinstance(error, HttpError):
        return error.status
    if isinstance(error, (DeadlineExceeded, TimeoutError)):
        return HTTPStatus.GATEWAY_TIMEOUT
    if isinstance(error, Rejected):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def error_response(error: BaseException, request: Request | None = None) -> Response:
    """Make the short page of an error: JSON when the client asks for it, else plain text; never anything internal."""
    status = status_of(error)
    known = isinstance(error, HttpError)
    detail = error.detail if known else ""  # type: ignore[attr-defined]  # narrowed by `known`
    extra = error.headers if known else ()  # type: ignore[attr-defined]
    phrase = reason_phrase(status) or "Error"
    if request is not None and wants_json(request.headers.get("accept") or ""):
        response = Response.json({"status": status, "error": phrase, **({"detail": detail} if detail else {})}, status)
    else:
        response = Response.text(f"{status} {phrase}\n" + (f"{detail}\n" if detail else ""), status)
    for name, value in extra:
        response.headers.set(name, value)
    if request is not None:
        response.headers.raw.extend(request.error_fields)
    return response


def wants_json(accept: str) -> bool:
    """Say whether an Accept field prefers JSON to text."""
    return preferred(accept, "text/plain", "application/json") == "application/json"
