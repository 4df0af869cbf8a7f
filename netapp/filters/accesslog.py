"""One event for each finished request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from twisted.logger import Logger, LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netapp.http.message import Request
    from netapp.http.responder import Answer, Filter, Responder

FORMAT = '{peer} "{method} {path}" {status}, {sent} B in {seconds:.4f} s'
CUT_SHORT = FORMAT + ", cut short: {error}"
FAILED = 500


def access_log(
    logger: Logger | None = None,
    *,
    level: Literal["debug", "info", "warn", "error"] = "info",
    sample: int = 1,
    fields: Iterable[str] = (),
    now: Callable[[], float] = time.monotonic,
) -> Filter:
    """Log every request, when its response is over, as one event of ``logger`` (by default ``netapp.access``).

    The event has ``method``, ``path``, ``status`` (0: nothing was sent), ``sent`` (bytes of content), ``seconds``,
    ``peer``, ``listener``, ``route``, ``request_id`` and ``error`` (why the response was cut short, or None).
    ``fields`` names request header fields, such as ``user-agent``, that are added as ``field_user_agent``.

    ``sample`` of 10 logs every tenth request; one that failed (5xx, or cut short) is logged in any case. ``now`` is
    the monotonic clock, in seconds, that ``Request.started`` is read from.

    The path is as it was sent and without its query, which is where tokens and personal data are. Nothing that a
    client sent is ever part of a format, and what could act on a terminal is escaped here already.
    """
    if sample < 1:
        raise ValueError(f"sample must be at least 1, not {sample}")
    log = logger or Logger(namespace="netapp.access")
    wanted = tuple((f"field_{name.lower().replace('-', '_')}", name) for name in fields)
    log_level = LogLevel.levelWithName(level)
    seen = 0

    def finished(request: Request, status: int, sent: int, error: BaseException | None) -> None:
        nonlocal seen
        seen += 1
        if seen % sample == 0 or status >= FAILED or error is not None:
            facts = _facts(request, status, sent, error)
            facts["seconds"] = now() - request.started
            for key, name in wanted:
                facts[key] = printable(", ".join(request.headers.get_all(name)))
            log.emit(log_level, FORMAT if error is None else CUT_SHORT, **facts)

    def around(responder: Responder) -> Responder:
        def answer(request: Request) -> Answer:
            request.on_finish(finished)
            return responder(request)

        return answer

    return around


def printable(text: str) -> str:
    r"""Escape what is no printable character: controls (C1 as well), bidirectional marks and odd spaces as ``\x9b``.

    A backslash is doubled where there was something to escape, so that an escape cannot be faked.
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _facts(request: Request, status: int, sent: int, error: BaseException | None) -> dict[str, Any]:
    peer = request.peer
    return {
        "method": request.method,
        "path": printable(request.raw_path.decode("latin-1")),
        "status": status,
        "sent": sent,
        "peer": str(peer),
        "listener": peer.listener,
        "route": request.route,
        "request_id": request.id,
        "error": None if error is None else printable(f"{type(error).__name__}: {error}"),
    }
