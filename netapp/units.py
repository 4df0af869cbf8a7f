"""Quantities as people write them: ``"30s"``, ``"1MiB"``, ``"10.0.0.0/8"``.

The annotated types mark fields of policy structs; :mod:`netapp.config.convert` reads the mark and parses the text, so
that a policy itself holds plain floats (seconds), integers (bytes) and the text of networks and endpoints.
"""

from __future__ import annotations

import re
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final

from msgspec import Meta

Network = IPv4Network | IPv6Network

_NUMBER = r"\d{1,19}(\.\d{1,9})?"
_DURATION = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)}
_SIZE = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>[kmg]i?b|b)?", re.ASCII | re.IGNORECASE)
_BYTES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "": 1,
}
_LARGEST_SIZE: Final = 2**62
"""Bytes. Nothing real is larger, and it still fits what the kernel and msgspec call an integer."""
_LONGEST_DURATION: Final = 1e12
"""Seconds, which is for ever, and far from where the sum with a clock would lose its milliseconds."""


def parse_duration(text: str) -> float:
    """Seconds from ``"250ms"``, ``"30s"``, ``"5m"``, ``"1h"``, ``"1d"`` or a bare number; ValueError otherwise."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("expected a duration such as '250ms', '30s' or '5m'")
    return float(Fraction(found["number"]) * _SECONDS[found["unit"] or "s"])


def parse_size(text: str) -> int:
    """Bytes from ``"64KiB"``, ``"1MiB"``, ``"10MB"`` or a bare number; ValueError otherwise.

    A fraction of a byte is an error, because whoever wrote it meant something else.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is not None:
        size = Fraction(found["number"]) * _BYTES[(found["unit"] or "").lower()]
        if size.denominator == 1:
            return int(size)
    raise ValueError("expected a size such as '64KiB' or '1MiB', in whole bytes")


def parse_cidr(text: str) -> Network:
    """Read a network in CIDR notation; a bare address is a network of one.

    Host bits that are set are an error, because a reader cannot tell which network was meant; so is a scope
    (``fe80::%eth0/64``), because a rule for one interface would silently hold for all. Raises ValueError.
    """
    if "%" in text:
        raise ValueError("expected a network without a scope such as '%eth0'")
    try:
        return ip_network(text.strip())
    except ValueError as problem:
        raise ValueError(f"expected a network such as '10.0.0.0/8' or '::1/128' ({problem})") from None


def format_duration(seconds: float) -> str:
    """Write seconds in the largest unit that needs no fraction: ``"5m"``; :func:`parse_duration` reads it back."""
    if 0 < seconds < 1 and (seconds * 1000).is_integer():
        return f"{seconds * 1000:.0f}ms"
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and not seconds % factor:
            return f"{seconds / factor:.0f}{unit}"
    return f"{f'{seconds:.9f}'.rstrip('0').rstrip('.')}s"


def format_size(size: int) -> str:
    """Write bytes in the largest binary unit that needs no fraction: ``"1MiB"``; :func:`parse_size` reads it back."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size and not size % factor:
            return f"{size // factor}{unit}"
    return str(size)


# The patterns are those of the parsers above, for whoever validates a document by the JSON Schema alone.
Duration = Annotated[
    float,
    Meta(
        ge=0,
        le=_LONGEST_DURATION,
        extra={"unit": "duration"},
        extra_json_schema={"pattern": f"^{_NUMBER}\\s*(ms|s|m|h|d)?$"},
        description="a duration such as '250ms', '30s' or '5m'; a bare number is seconds",
    ),
]
Size = Annotated[
    int,
    Meta(
        ge=0,
        le=_LARGEST_SIZE,
        extra={"unit": "size"},
        extra_json_schema={"pattern": f"^{_NUMBER}\\s*([kKmMgG][iI]?[bB]|[bB])?$"},
        description="a size such as '64KiB' or '1MiB'; a bare number is bytes",
    ),
]
Cidr = Annotated[
    str, Meta(extra={"unit": "cidr"}, description="a network such as '10.0.0.0/8' or '::1/128', or one address")
]
Endpoint = Annotated[
    str,
    Meta(
        min_length=3,
        extra={"unit": "endpoint"},
        description="a Twisted server endpoint such as 'tcp:8080:interface=127.0.0.1' or 'unix:/run/netapp.sock'",
    ),
]
Secret = Annotated[str, Meta(extra={"unit": "secret"}, description="a secret; shown as '***' everywhere")]
