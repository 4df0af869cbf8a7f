"""What a PROXY protocol header says, whichever version it was written in."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from netapp.errors import ProtocolViolation
from netapp.listeners.access import read_address
from netapp.listeners.proxyproto.tlv import ProxySsl, TlvType, read_ssl

LARGEST_PORT = 65535
_MAPPED = 0xFFFF << 32
"""``::ffff:0:0``, below which every IPv4 address has its IPv6 spelling (RFC 4291 §2.5.5.2)."""


class Command(StrEnum):
    """Whose connection it is (§2.2)."""

    LOCAL = "local"
    """The proxy's own, such as a health check: nothing is relayed."""
    PROXY = "proxy"
    """A client's."""


class Family(StrEnum):
    """What the header's addresses are (§2.2)."""

    UNSPEC = "unspec"
    """There are none that could be used: the real connection's stand."""
    INET = "inet"
    INET6 = "inet6"
    UNIX = "unix"


class NoHeader(ProtocolViolation):
    """The stream does not begin with a header. ``stream`` is all of it that was fed."""

    def __init__(self, detail: str, stream: bytes) -> None:
        super().__init__(detail)
        self.stream = stream


class ProxyHeader(Struct, frozen=True, kw_only=True):
    """One header. Where ``relayed`` is false, the addresses are empty and the real connection's are to be used.

    Hosts are text (``192.0.2.7``, ``2001:db8::1``); the paths of UNIX sockets are bytes and an abstract one begins with
    a zero byte. ValueError for a port outside 0..65535, and for a LOCAL header with addresses.
    """

    version: int = 0
    """1 or 2, as it was read; 0 for none: a header to be written, or a stream that was passed on without one."""
    command: Command = Command.LOCAL
    family: Family = Family.UNSPEC
    source_host: str = ""
    source_port: int = 0
    destination_host: str = ""
    destination_port: int = 0
    source_path: bytes = b""
    destination_path: bytes = b""
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """What version 2 adds: type and value, in the order sent; without paddings and the checksum."""
    rest: bytes = b""
    """What followed the header in the bytes that completed it: the beginning of the relayed stream."""

    def __post_init__(self) -> None:
        """Refuse what neither version could carry."""
        if self.command is Command.LOCAL and self.relayed:
            raise ValueError("a LOCAL header has no addresses, for it relays nothing")
        for port in (self.source_port, self.destination_port):
            if not 0 <= port <= LARGEST_PORT:
                raise ValueError(f"a port is 0 to 65535, not {port}")

    @property
    def relayed(self) -> bool:
        """Whether the header's addresses replace those of the real connection."""
        return self.family is not Family.UNSPEC

    def tlv(self, kind: int) -> bytes | None:
        """Return the value of the first TLV of that type, or None."""
        return next((value for found, value in self.tlvs if found == kind), None)

    @property
    def ssl(self) -> ProxySsl | None:
        """What the client's TLS session was, where the proxy ended one and says so."""
        value = self.tlv(TlvType.SSL)
        return None if value is None else read_ssl(value)

    @classmethod
    def between(
        cls, source: tuple[str, int], destination: tuple[str, int], tlvs: tuple[tuple[int, bytes], ...] = ()
    ) -> ProxyHeader:
        """Describe a relayed TCP connection from ``source`` to ``destination``, each a host and a port.

        A header has one family for both ends: where only one is IPv6, the other is written as an IPv4-mapped address.
        Scopes are dropped, for they mean nothing to another host. ValueError for what is no address or port.
        """
        ends = [_address(host) for host, _ in (source, destination)]
        inet = all(isinstance(end, IPv4Address) for end in ends)
        hosts = [str(end if inet else _widen(end)) for end in ends]
        return cls(
            command=Command.PROXY,
            family=Family.INET if inet else Family.INET6,
            source_host=hosts[0],
            source_port=source[1],
            destination_host=hosts[1],
            destination_port=destination[1],
            tlvs=tlvs,
        )


def check_magic(magic: bytes, held: bytearray, data: bytes) -> None:
    """Compare ``data``, which follows ``held``, with its part of ``magic``; NoHeader at the first byte that differs."""
    expected = magic[len(held) : len(held) + len(data)]
    if data.startswith(expected):
        return
    index = next(index for index, byte in enumerate(expected) if byte != data[index])
    where = len(held) + index
    raise NoHeader(f"not a PROXY protocol header: byte 0x{data[index]:02x} at offset {where}", bytes(held) + data)


def _address(host: str) -> IPv4Address | IPv6Address:
    address = read_address(host)
    if address is None:
        raise ValueError(f"expected an IP address, not {host!r}")
    return address


def _widen(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(_MAPPED | int(address))
