r"""Version 1 (§2.1): one line of text, ``PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n``.

The line is read in three steps, in the order of its bytes: the word ``PROXY``, the keyword, and what follows up to the
CRLF. Each step ends at the first byte that cannot be, so a fault is found at the same byte and told in the same words,
however the line was split; no byte is searched twice but a CR that waits for its LF. The addresses are read once, when
the line is complete, as §2.1 asks.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from netapp.errors import ProtocolViolation
from netapp.listeners.proxyproto.header import LARGEST_PORT, Command, Family, ProxyHeader, check_magic

MAGIC = b"PROXY "

_LONGEST = 107
"""Bytes of the longest line, with its CRLF (§2.1)."""

_LAST_CR = _LONGEST - 2
"""The last offset at which the CR of a line can be."""

_FIELDS = 4
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")

_NOT_ADDRESSES = re.compile(rb"[^0-9A-Fa-f:. ]")
_LINE_END = re.compile(rb"[\r\n]")

_KEYWORDS = {
    b"TCP4 ": (Family.INET, _NOT_ADDRESSES),
    b"TCP6 ": (Family.INET6, _NOT_ADDRESSES),
    b"UNKNOWN ": (Family.UNSPEC, _LINE_END),
    b"UNKNOWN\r": (Family.UNSPEC, _LINE_END),
}
"""Each keyword, with the byte that has to follow it: its family, and the byte at which the rest of its line ends or
breaks the rules. What follows ``UNKNOWN`` is ignored (§2.1)."""

_ADDRESSES: dict[Family, type[IPv4Address | IPv6Address]] = {Family.INET: IPv4Address, Family.INET6: IPv6Address}
_NAMES = {Family.INET: "TCP4", Family.INET6: "TCP6"}


class V1Parser:
    """Reads one line, fed in any pieces."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._keyword = b""
        self._searched = 0

    def feed(self, data: bytes) -> ProxyHeader | None:
        """Take the next bytes. Return the header once it is complete, and do not feed more then; None until then.

        Raises NoHeader where the stream does not begin with ``PROXY`` and a space, ProtocolViolation for a line that
        breaks the rules, each at the first byte that shows it.
        """
        check_magic(MAGIC, self._line, data)
        before = len(self._line)
        self._line += data[: _LONGEST - before]
        if not self._has_keyword():
            return None
        end = self._find_end()
        return None if end is None else self._read(end, rest=data[end + 2 - before :])

    def _has_keyword(self) -> bool:
        if self._keyword:
            return True
        written = self._line[len(MAGIC) :]
        fitting = [keyword for keyword in _KEYWORDS if keyword.startswith(written[: len(keyword)])]
        if not fitting:
            raise ProtocolViolation("PROXY v1: expected TCP4 or TCP6 and a space, or UNKNOWN")
        if len(written) < len(fitting[0]):
            return False
        self._keyword = fitting[0]
        self._searched = len(MAGIC) + len(self._keyword) - 1
        return True

    def _find_end(self) -> int | None:
        """Return the offset of the CR that ends the line, once the LF behind it has come."""
        found = _KEYWORDS[self._keyword][1].search(self._line, self._searched)
        at = self._searched = found.start() if found else len(self._line)
        if at > _LAST_CR:
            raise ProtocolViolation(f"PROXY v1: no CRLF within {_LONGEST} bytes")
        if found is None:
            return None
        if found[0] != b"\r":
            raise ProtocolViolation(f"PROXY v1: byte 0x{found[0][0]:02x} at offset {at} of the line")
        following = self._line[at + 1 : at + 2]
        if following and following != b"\n":
            raise ProtocolViolation(f"PROXY v1: a CR without LF at offset {at} of the line")
        return at if following else None

    def _read(self, end: int, rest: bytes) -> ProxyHeader:
        family, _ = _KEYWORDS[self._keyword]
        if family is Family.UNSPEC:
            return ProxyHeader(version=1, command=Command.PROXY, rest=rest)
        fields = self._line[len(MAGIC) + len(self._keyword) : end].decode("ascii").split(" ")
        if len(fields) != _FIELDS:
            raise ProtocolViolation(f"PROXY v1: expected {_FIELDS} fields behind the keyword, not {len(fields)}")
        return ProxyHeader(
            version=1,
            command=Command.PROXY,
            family=family,
            source_host=_read_address(family, fields[0]),
            destination_host=_read_address(family, fields[1]),
            source_port=_read_port(fields[2]),
            destination_port=_read_port(fields[3]),
            rest=rest,
        )


def encode_v1(header: ProxyHeader) -> bytes:
    """Write the line for ``header``, without its TLVs, for which version 1 has no room.

    What version 1 cannot name is ``UNKNOWN``: UNIX sockets, and what is not relayed. ValueError for a host that is no
    address of the header's family.
    """
    if header.family not in _NAMES:
        return b"PROXY UNKNOWN\r\n"
    kind = _ADDRESSES[header.family]
    # By way of the packed form, which has no scope: version 1 has no way to write one.
    source, destination = (kind(kind(host).packed) for host in (header.source_host, header.destination_host))
    ports = f"{header.source_port} {header.destination_port}"
    return f"PROXY {_NAMES[header.family]} {source} {destination} {ports}\r\n".encode()


def _read_address(family: Family, text: str) -> str:
    """Read an address as inet_pton does; its dotted form within IPv6 too, which is how inet_ntop writes mapped ones."""
    try:
        return str(_ADDRESSES[family](text))
    except AddressValueError:
        raise ProtocolViolation(f"PROXY v1: {text!r} is no {_NAMES[family]} address") from None


def _read_port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > LARGEST_PORT:
        raise ProtocolViolation(f"PROXY v1: {text!r} is no port")
    return int(text)
