"""One header of whichever version the policy accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netapp.listeners.proxyproto.header import NoHeader, ProxyHeader
from netapp.listeners.proxyproto.v1 import MAGIC, V1Parser
from netapp.listeners.proxyproto.v2 import SIGNATURE, V2Parser

if TYPE_CHECKING:
    from netapp.listeners.proxyproto.policy import ProxyPolicy


class ProxyParser:
    """Reads the header of one connection of a trusted peer. The first byte tells the version."""

    def __init__(self, policy: ProxyPolicy) -> None:
        self._policy = policy
        self._parser: V1Parser | V2Parser | None = None

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes, in any pieces. Return the header once it is complete; None until then.

        Do not feed more after that: what follows the header is in its ``rest``. Raises ProtocolViolation as soon as the
        bytes cannot be a header that the policy accepts. Where it requires none, a stream that does not begin with
        ``PROXY`` and a space, nor with the signature of version 2, gives a header of version 0 with all of it in
        ``rest``; one that does has to be a header.
        """
        if not data:
            return None
        try:
            if self._parser is None:
                self._parser = self._choose(data)
            return self._parser.feed(data)
        except NoHeader as found:
            if self._policy.required:
                raise
            return ProxyHeader(rest=found.stream)

    def _choose(self, data: bytes) -> V1Parser | V2Parser:
        policy = self._policy
        if data[0] == MAGIC[0] and 1 in policy.versions:
            return V1Parser()
        if data[0] == SIGNATURE[0] and 2 in policy.versions:  # noqa: PLR2004 - a version
            return V2Parser(policy.max_size, verify_checksum=policy.verify_checksum)
        accepted = " or ".join(str(version) for version in policy.versions)
        raise NoHeader(f"byte 0x{data[0]:02x} does not begin a PROXY protocol header of version {accepted}", data)
