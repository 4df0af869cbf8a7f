r"""Version 2 (§2.2): sixteen fixed bytes, then the addresses and the TLVs, as many bytes as the fixed ones announce.

The fixed bytes are judged one by one as they come, so that a header which cannot be accepted is refused before its
block is waited for; the block is read once, when it is complete, as §2.2 asks.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct as Layout
from typing import TYPE_CHECKING

from netapp.errors import ProtocolViolation
from netapp.listeners.proxyproto.crc32c import crc32c
from netapp.listeners.proxyproto.header import Command, Family, ProxyHeader, check_magic
from netapp.listeners.proxyproto.tlv import TlvType, read_ssl, read_text, read_tlvs, write_tlvs

if TYPE_CHECKING:
    from netapp.listeners.proxyproto.tlv import Tlv

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

DEFAULT_MAX_SIZE = 4096
"""Bytes of a whole header. A sender is to fit in 536, the smallest segment (§2), but TLVs with certificates do not;
this is what nginx reads (NGX_PROXY_PROTOCOL_MAX_HEADER)."""

_FIXED = Layout("!12sBBH")
_COMMAND_AT = 12
_FAMILY_AT = 13
_LENGTH_AT = 14
_VERSION = 2
_COMMANDS = {0: Command.LOCAL, 1: Command.PROXY}
_FAMILIES = {0: Family.UNSPEC, 1: Family.INET, 2: Family.INET6, 3: Family.UNIX}
_COMMAND_CODES = {command: code for code, command in _COMMANDS.items()}
_FAMILY_CODES = {family: code for code, family in _FAMILIES.items()}
_STREAM = 1
_TRANSPORTS = range(3)
"""UNSPEC, STREAM, DGRAM."""

_ADDRESSES = {Family.INET: Layout("!4s4sHH"), Family.INET6: Layout("!16s16sHH"), Family.UNIX: Layout("!108s108s")}
_PATH = 108
SMALLEST_MAX_SIZE = _FIXED.size + _ADDRESSES[Family.UNIX].size
"""Bytes: a header with the largest addresses, and no TLV."""

_CHECKSUM = Layout("!I")
_LONGEST_ID = 128
_LONGEST_BLOCK = 0xFFFF
_WIRE_ONLY = frozenset({TlvType.NOOP, TlvType.CRC32C})
"""Vectors that are about the header and not about the connection."""
_ONCE = frozenset(TlvType) - {TlvType.NOOP}
"""Vectors that tell one thing of the connection. Two of a kind would let two readers believe different things."""


class V2Parser:
    """Reads one header, fed in any pieces, of at most ``max_size`` bytes."""

    def __init__(self, max_size: int = DEFAULT_MAX_SIZE, *, verify_checksum: bool = True) -> None:
        self._max_size = max_size
        self._verify = verify_checksum
        self._held = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes. Return the header once it is complete, and do not feed more then; None until then.

        Raises NoHeader where the stream does not begin with the signature, ProtocolViolation for a header that breaks
        the rules: at the first byte that shows it, and for a fault in the block when the block is complete.
        """
        check_magic(SIGNATURE, self._held, data)
        if len(self._held) < _FIXED.size:
            data = self._take(data, _FIXED.size)
            self._check_fixed()
            if len(self._held) < _FIXED.size:
                return None
            self._size = self._announced_size()
        data = self._take(data, self._size)
        return self._read(rest=data) if len(self._held) == self._size else None

    def _take(self, data: bytes, size: int) -> bytes:
        """Hold ``size`` bytes in all, as far as ``data`` goes, and return what of it is left."""
        missing = size - len(self._held)
        self._held += data[:missing]
        return data[missing:]

    def _check_fixed(self) -> None:
        held = self._held
        if len(held) > _COMMAND_AT:
            version, command = divmod(held[_COMMAND_AT], 16)
            if version != _VERSION:
                raise ProtocolViolation(f"PROXY v2: version {version} behind the signature of version 2")
            if command not in _COMMANDS:
                raise ProtocolViolation(f"PROXY v2: unassigned command 0x{command:x}")
        if len(held) > _FAMILY_AT and self._command is Command.PROXY:
            family, transport = divmod(held[_FAMILY_AT], 16)
            if family not in _FAMILIES:
                raise ProtocolViolation(f"PROXY v2: unassigned address family 0x{family:x}")
            if transport not in _TRANSPORTS:
                raise ProtocolViolation(f"PROXY v2: unassigned transport 0x{transport:x}")

    @property
    def _command(self) -> Command:
        return _COMMANDS[self._held[_COMMAND_AT] & 0x0F]

    @property
    def _family(self) -> Family:
        """The family whose addresses begin the block; UNSPEC where it is not known what does.

        A block of LOCAL is discarded with whatever it says (§2.2), and one without a family or a transport may hold
        anything.
        """
        family, transport = divmod(self._held[_FAMILY_AT], 16)
        return _FAMILIES[family] if self._command is Command.PROXY and transport else Family.UNSPEC

    def _announced_size(self) -> int:
        length = int.from_bytes(self._held[_LENGTH_AT:], "big")
        size = _FIXED.size + length
        if size > self._max_size:
            raise ProtocolViolation(f"PROXY v2: a header of {size} bytes, over the limit of {self._max_size}")
        layout = _ADDRESSES.get(self._family)
        if layout is not None and length < layout.size:
            needed = f"{self._family} addresses need {layout.size}"
            raise ProtocolViolation(f"PROXY v2: a block of {length} bytes, where {needed}")
        return size

    def _read(self, rest: bytes) -> ProxyHeader:
        family = self._family
        layout = _ADDRESSES.get(family)
        if layout is None:
            return ProxyHeader(version=2, command=self._command, rest=rest)
        header = bytes(self._held)
        tlvs = self._read_tlvs(header, _FIXED.size + layout.size)
        if header[_FAMILY_AT] % 16 != _STREAM:
            # §2.2 for what is not supported, as a datagram's addresses are not on a stream: the real ones are used.
            return ProxyHeader(version=2, command=Command.PROXY, tlvs=tlvs, rest=rest)
        if family is Family.UNIX:
            source, destination = layout.unpack_from(header, _FIXED.size)
            return ProxyHeader(
                version=2,
                command=Command.PROXY,
                family=family,
                source_path=_read_path(source),
                destination_path=_read_path(destination),
                tlvs=tlvs,
                rest=rest,
            )
        source, destination, source_port, destination_port = layout.unpack_from(header, _FIXED.size)
        return ProxyHeader(
            version=2,
            command=Command.PROXY,
            family=family,
            source_host=str(ip_address(source)),
            source_port=source_port,
            destination_host=str(ip_address(destination)),
            destination_port=destination_port,
            tlvs=tlvs,
            rest=rest,
        )

    def _read_tlvs(self, header: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
        found: dict[int, Tlv] = {}
        kept: list[tuple[int, bytes]] = []
        for tlv in read_tlvs(header, start):
            if tlv.kind in _ONCE and tlv.kind in found:
                raise ProtocolViolation(f"PROXY v2: two TLVs of type 0x{tlv.kind:02x}")
            found[tlv.kind] = tlv
            _check_tlv(tlv)
            if tlv.kind not in _WIRE_ONLY:
                kept.append((tlv.kind, tlv.value))
        if self._verify and TlvType.CRC32C in found:
            _check_sum(header, found[TlvType.CRC32C])
        return tuple(kept)


def _check_tlv(tlv: Tlv) -> None:
    """Refuse a value that breaks its type's rules (§2.2.1 to §2.2.6)."""
    if tlv.kind == TlvType.SSL:
        read_ssl(tlv.value)
    elif tlv.kind == TlvType.AUTHORITY:
        read_text(tlv, "utf-8")
    elif tlv.kind == TlvType.UNIQUE_ID and len(tlv.value) > _LONGEST_ID:
        raise ProtocolViolation(f"PROXY v2: a unique id of {len(tlv.value)} bytes, over the {_LONGEST_ID} allowed")
    elif tlv.kind == TlvType.CRC32C and len(tlv.value) != _CHECKSUM.size:
        raise ProtocolViolation(f"PROXY v2: a checksum of {len(tlv.value)} bytes, not {_CHECKSUM.size}")


def _check_sum(header: bytes, tlv: Tlv) -> None:
    """Compare the checksum with that of the header in which it is zero (§2.2.3)."""
    blanked = header[: tlv.offset] + bytes(_CHECKSUM.size) + header[tlv.offset + _CHECKSUM.size :]
    if _CHECKSUM.pack(crc32c(blanked)) != tlv.value:
        raise ProtocolViolation("PROXY v2: the checksum does not fit the header")


def _read_path(field: bytes) -> bytes:
    """Read a UNIX socket's name: up to the first zero byte, but an abstract one begins with one and may hold more."""
    return field.rstrip(b"\0") if field.startswith(b"\0") else field.partition(b"\0")[0]


def encode_v2(header: ProxyHeader, *, checksum: bool = False) -> bytes:
    """Write ``header``, with a checksum if asked for.

    One without addresses has no block at all, as §2.2 asks of LOCAL: its TLVs are left out. ValueError for hosts that
    are no addresses of the header's family, a path over 108 bytes, or a block over 65,535.
    """
    command = _COMMAND_CODES[header.command] | _VERSION << 4
    if header.family is Family.UNSPEC:
        return _FIXED.pack(SIGNATURE, command, 0, 0)
    tlvs = (*header.tlvs, (TlvType.CRC32C, bytes(_CHECKSUM.size))) if checksum else header.tlvs
    block = _write_addresses(header) + write_tlvs(tlvs)
    if len(block) > _LONGEST_BLOCK:
        raise ValueError(
            f"a PROXY v2 header has at most {_LONGEST_BLOCK} bytes of addresses and TLVs, not {len(block)}"
        )
    written = _FIXED.pack(SIGNATURE, command, _FAMILY_CODES[header.family] << 4 | _STREAM, len(block)) + block
    return written[: -_CHECKSUM.size] + _CHECKSUM.pack(crc32c(written)) if checksum else written


def _write_addresses(header: ProxyHeader) -> bytes:
    if header.family is Family.UNIX:
        return _write_path(header.source_path) + _write_path(header.destination_path)
    kind = IPv4Address if header.family is Family.INET else IPv6Address
    return _ADDRESSES[header.family].pack(
        kind(header.source_host).packed,
        kind(header.destination_host).packed,
        header.source_port,
        header.destination_port,
    )


def _write_path(path: bytes) -> bytes:
    if len(path) > _PATH:
        raise ValueError(f"the path of a UNIX socket has at most {_PATH} bytes, not {len(path)}")
    return path.ljust(_PATH, b"\0")
