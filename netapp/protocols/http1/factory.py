"""What all HTTP/1 connections of one listener share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from netapp.errors import PeerAborted
from netapp.http.errors import HttpError, error_response, status_of
from netapp.peer import Peer, TlsInfo
from netapp.protocols.http1.policy import HttpPolicy
from netapp.protocols.http1.protocol import Http1Protocol
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IReactorTime

    from netapp.http.message import Request, Response
    from netapp.http.responder import Responder

SERVER_ERROR = 500

_log = Logger("netapp.http")


class Http1Factory(ServerFactory):
    """Serves ``responder`` over HTTP/1.

    Usable with any Twisted endpoint: ``endpoint.listen(Http1Factory(router))``. ``clock`` defaults to the global
    reactor; ``timers``, ``registry`` and ``name`` (the listener's, for metrics) come from a netapp application.
    """

    noisy = False

    def __init__(
        self,
        responder: Responder,
        policy: HttpPolicy | None = None,
        *,
        clock: IReactorTime | None = None,
        timers: Timers | None = None,
        registry: Registry | None = None,
        name: str = "http",
    ) -> None:
        if clock is None:
            from twisted.internet import reactor  # noqa: PLC0415 - a library must not choose the reactor at import

            clock = cast("IReactorTime", reactor)
        self.responder = responder
        self.policy = policy or HttpPolicy()
        self.rearms = self.policy.keepalive_timeout < self.policy.header_timeout
        """Whether an idle connection's deadline may be nearer than one that it is filed for in the wheel already."""
        self.clock = clock
        self.timers = Timers(self.clock) if timers is None else timers
        self.name = name
        self._refused = (registry or Registry()).counter(
            "netapp_http_requests_refused_total",
            "Requests that were refused before they reached a responder, by status.",
            ("listener", "status"),
        )
        self._anonymous = 0

    def buildProtocol(  # type: ignore[override]  # not a subclass of Twisted's Protocol: it has slots
        self,
        addr: IAddress | None,  # noqa: ARG002 - Twisted's signature
    ) -> Http1Protocol:
        """Make the protocol of one connection."""
        return Http1Protocol(self)

    def refused(self, status: int) -> None:
        """Count a request that broke a rule or a limit."""
        self._refused.child(self.name, str(int(status))).value += 1

    def failed(self, request: Request, error: BaseException) -> Response:
        """Turn a responder's exception into its response; one that nobody foresaw is logged with its traceback."""
        if status_of(error) == SERVER_ERROR and not isinstance(error, HttpError):
            self.defect("the responder of {request} failed: {error!r}", request, error)
        try:
            return error_response(error, request)
        except Exception as problem:  # noqa: BLE001 - the error's own fields, or those that a filter wants in it
            self.defect("the error page of {request} failed: {error!r}", request, problem)
            return error_response(HttpError(SERVER_ERROR))

    def cut_short(self, request: Request, error: BaseException) -> None:
        """Log a response that could not be completed, unless that was its client's doing."""
        if isinstance(error, HttpError) and error.status < SERVER_ERROR:
            return
        if not isinstance(error, (CancelledError, PeerAborted)):
            self.defect("the response to {request} was cut short: {error!r}", request, error)

    def defect(self, text: str, request: Request, error: BaseException) -> None:
        """Log an exception that nobody foresaw, with its traceback; ``text`` may name the request and the error."""
        _log.error(text, request=request, error=error, log_failure=_failure(error))

    def describe_peer(self, transport: Any) -> Peer:
        """Describe the client of a connection that no netapp listener carries."""
        self._anonymous += 1
        address = transport.getPeer()
        tls = TlsInfo() if ISSLTransport.providedBy(transport) else None
        return Peer(
            id=f"{self.name}-{self._anonymous:x}",
            listener=self.name,
            host=getattr(address, "host", ""),
            port=getattr(address, "port", 0),
            tls=tls,
        )


def _failure(error: BaseException) -> Any:
    from twisted.python.failure import Failure  # noqa: PLC0415 - only on the way of an error

    return Failure(error)
