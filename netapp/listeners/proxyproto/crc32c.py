"""CRC32C (Castagnoli), the checksum of RFC 4960 appendix B (now RFC 9260 appendix A).

It covers one header of about a hundred bytes a connection, and only where the proxy sends it: about ten microseconds of
Python, which no dependency is worth.
"""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78
"""0x1EDC6F41 with its bits reversed, for bytes are fed lowest bit first."""

_ONES = 0xFFFFFFFF


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """Return the checksum of ``data`` as an unsigned 32-bit number."""
    remainder = _ONES
    for byte in data:
        remainder = remainder >> 8 ^ _TABLE[(remainder ^ byte) & 0xFF]
    return remainder ^ _ONES
