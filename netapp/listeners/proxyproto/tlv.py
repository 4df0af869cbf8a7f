"""The type-length-value vectors that version 2 may carry behind the addresses (§2.2.1 to §2.2.8)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct as Layout
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from netapp.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD = Layout("!BH")
_SSL_HEAD = Layout("!BI")
_LONGEST_VALUE = 0xFFFF


class TlvType(IntEnum):
    """Types that the specification registers (§2.2). 0xE0 to 0xEF are free for applications (§2.2.8)."""

    ALPN = 0x01
    """The protocol chosen by the client's ALPN (RFC 7301)."""
    AUTHORITY = 0x02
    """The host name that the client asked for, UTF-8: in TLS, its server name."""
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    """Up to 128 bytes that identify the connection across proxies."""
    SSL = 0x20
    NETNS = 0x30


class SslSubtype(IntEnum):
    """Types within an SSL vector (§2.2.6)."""

    VERSION = 0x21
    COMMON_NAME = 0x22
    CIPHER = 0x23
    SIGNATURE_ALGORITHM = 0x24
    KEY_ALGORITHM = 0x25


class SslClient(IntFlag):
    """What the client did (§2.2.6)."""

    SSL = 0x01
    """It connected over TLS."""
    CERT_CONNECTION = 0x02
    """It showed a certificate on this connection."""
    CERT_SESSION = 0x04
    """It showed one at least once in this TLS session."""


class ProxySsl(Struct, frozen=True, kw_only=True):
    """The client's TLS session with the proxy. Text that was not sent is empty."""

    client: SslClient = SslClient(0)
    verify: int = 0
    """The proxy's verification result, 0 for none wrong: also where there was no certificate, see ``verified``."""
    version: str = ""
    common_name: str = ""
    """The common name in the client certificate's subject: an identity only where ``verified``."""
    cipher: str = ""
    signature_algorithm: str = ""
    key_algorithm: str = ""

    @property
    def verified(self) -> bool:
        """Whether the client showed a certificate and the proxy found it good."""
        return self.verify == 0 and bool(self.client & (SslClient.CERT_CONNECTION | SslClient.CERT_SESSION))


_SSL_FIELDS = {
    SslSubtype.VERSION: ("version", "ascii"),
    SslSubtype.COMMON_NAME: ("common_name", "utf-8"),
    SslSubtype.CIPHER: ("cipher", "ascii"),
    SslSubtype.SIGNATURE_ALGORITHM: ("signature_algorithm", "ascii"),
    SslSubtype.KEY_ALGORITHM: ("key_algorithm", "ascii"),
}


class Tlv(NamedTuple):
    """One vector, and the offset of its value in what it was read from."""

    kind: int
    value: bytes
    offset: int


def read_tlvs(data: bytes, start: int) -> Iterator[Tlv]:
    """Yield the vectors that fill ``data`` from ``start``; ProtocolViolation where one overruns its end."""
    while start < len(data):
        value_at = start + _HEAD.size
        if value_at > len(data):
            raise ProtocolViolation(f"PROXY v2: the TLV at byte {start} is cut off within its type and length")
        kind, length = _HEAD.unpack_from(data, start)
        start = value_at + length
        if start > len(data):
            over = start - len(data)
            raise ProtocolViolation(f"PROXY v2: the TLV of type 0x{kind:02x} overruns its block by {over} bytes")
        yield Tlv(kind, data[value_at:start], value_at)


def write_tlvs(tlvs: Iterable[tuple[int, bytes]]) -> bytes:
    """Write vectors one after the other; ValueError for a type over 255 or a value over 65,535 bytes."""
    return b"".join(_write_tlv(kind, value) for kind, value in tlvs)


def _write_tlv(kind: int, value: bytes) -> bytes:
    if not 0 <= kind <= 0xFF or len(value) > _LONGEST_VALUE:  # noqa: PLR2004 - one byte
        raise ValueError(f"a TLV has a type of one byte and at most 65535 bytes, not {kind} and {len(value)}")
    return _HEAD.pack(kind, len(value)) + value


def read_ssl(value: bytes) -> ProxySsl:
    """Read the value of an SSL vector; ProtocolViolation where it is malformed. Unknown subtypes are skipped."""
    if len(value) < _SSL_HEAD.size:
        raise ProtocolViolation(f"PROXY v2: an SSL TLV has at least {_SSL_HEAD.size} bytes, not {len(value)}")
    client, verify = _SSL_HEAD.unpack_from(value)
    texts: dict[str, str] = {}
    for tlv in read_tlvs(value, _SSL_HEAD.size):
        name, encoding = _SSL_FIELDS.get(tlv.kind, ("", ""))  # type: ignore[call-overload]
        if name in texts:
            raise ProtocolViolation(f"PROXY v2: the SSL TLV has two of type 0x{tlv.kind:02x}")
        if name:
            texts[name] = read_text(tlv, encoding)
    return ProxySsl(client=SslClient(client), verify=verify, **texts)


def write_ssl(ssl: ProxySsl) -> bytes:
    """Write the value of an SSL vector; texts that are empty are left out."""
    fields = ((kind, getattr(ssl, name).encode(encoding)) for kind, (name, encoding) in _SSL_FIELDS.items())
    return _SSL_HEAD.pack(ssl.client, ssl.verify) + write_tlvs(field for field in fields if field[1])


def read_text(tlv: Tlv, encoding: str) -> str:
    """Decode a vector's value; ProtocolViolation where it is not text: replacements make different names alike."""
    try:
        return tlv.value.decode(encoding)
    except UnicodeDecodeError:
        raise ProtocolViolation(f"PROXY v2: the TLV of type 0x{tlv.kind:02x} is not {encoding.upper()}") from None
