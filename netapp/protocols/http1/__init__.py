"""HTTP/1.0 and HTTP/1.1 (RFC 9112), parsed by httptools and answered by the request plane."""

from netapp.protocols.http1.factory import Http1Factory
from netapp.protocols.http1.policy import HttpPolicy
from netapp.protocols.http1.protocol import Http1Protocol

__all__ = ["Http1Factory", "Http1Protocol", "HttpPolicy"]
