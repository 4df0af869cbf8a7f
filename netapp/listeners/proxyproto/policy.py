"""From whom a PROXY protocol header is believed, and how long it is waited for."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from netapp.listeners.access import AddressSet
from netapp.listeners.proxyproto.v2 import DEFAULT_MAX_SIZE, SMALLEST_MAX_SIZE
from netapp.units import Cidr, Duration, Size


class ProxyPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The PROXY protocol on one listener."""

    trusted: tuple[Cidr, ...]
    """Networks of the proxies that are believed. A header decides who the client is, so that whoever may send one may
    claim any address: the specification (§2, §5) asks for known sources only, and there is no default."""
    timeout: Duration = 3.0
    """Seconds from the moment that the connection could be read until its header must be complete. The specification
    (§2) asks for at least 3 s, which cover one TCP retransmission."""
    required: bool = True
    """Whether a trusted peer must send a header. Where it need not, a stream that cannot be a header is served with
    the real connection's addresses. Leave it on where the proxy relays foreign bytes without a header of its own:
    those could then begin with a forged one (§2: a receiver must not guess)."""
    versions: tuple[Literal[1, 2], ...] = (1, 2)
    """The versions that are accepted."""
    max_size: Size = DEFAULT_MAX_SIZE
    """Bytes of a whole version 2 header, TLVs included; the default is nginx's. Version 1 has 107 at most (§2.1)."""
    verify_checksum: bool = True
    """Whether the CRC32C of a version 2 header is verified where there is one (§2.2.3)."""

    def __post_init__(self) -> None:
        """Refuse a policy that trusts nobody, or under which no header can arrive."""
        if not AddressSet(self.trusted):
            raise ValueError(
                "the PROXY protocol needs trusted networks: the addresses of the proxies that may speak it"
            )
        if not self.versions:
            raise ValueError("the PROXY protocol needs a version: 1, 2, or both")
        if self.timeout <= 0:
            raise ValueError("the PROXY protocol needs a timeout above 0")
        if self.max_size < SMALLEST_MAX_SIZE:
            raise ValueError(f"max_size must have room for the largest addresses: at least {SMALLEST_MAX_SIZE} bytes")
