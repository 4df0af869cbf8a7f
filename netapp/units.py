"""Quantities as people write them: ``"30s"``, ``"1MiB"``, ``"10.0.0.0/8"``.

The annotated types mark fields of policy structs; :mod:`netapp.config.load` reads the mark and parses the text, so
that a policy itself holds plain floats (seconds), integers (bytes) and :mod:`ipaddress` networks.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from msgspec import Meta

Network = IPv4Network | IPv6Network

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmg]i?b|b)?", re.ASCII | re.IGNORECASE)
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


def parse_duration(text: str) -> float:
    """Seconds from ``"250ms"``, ``"30s"``, ``"5m"``, ``"1h"``, ``"1d"`` or a bare number; ValueError otherwise."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("expected a duration such as '250ms', '30s' or '5m'")
    return float(found["number"]) * _SECONDS[found["unit"]]


def parse_size(text: str) -> int:
    """Bytes from ``"64KiB"``, ``"1MiB"``, ``"10MB"`` or a bare number; ValueError otherwise."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("expected a size such as '64KiB' or '1MiB'")
    return int(float(found["number"]) * _BYTES[(found["unit"] or "").lower()])


def parse_cidr(text: str) -> Network:
    """Read a network in CIDR notation; a bare address is a network of one.

    Host bits that are set are an error, because a reader cannot tell which network was meant. Raises ValueError.
    """
    try:
        return ip_network(text.strip())
    except ValueError as problem:
        raise ValueError(f"expected a network such as '10.0.0.0/8' or '::1/128' ({problem})") from None


Duration = Annotated[float, Meta(ge=0, extra={"unit": "duration"}, description="a duration: '250ms', '30s', '5m'")]
Size = Annotated[int, Meta(ge=0, extra={"unit": "size"}, description="a size: '64KiB', '1MiB', or bytes")]
Cidr = Annotated[str, Meta(extra={"unit": "cidr"}, description="a network: '10.0.0.0/8', '::1/128', '192.0.2.7'")]
Endpoint = Annotated[
    str, Meta(min_length=3, extra={"unit": "endpoint"}, description="a Twisted server endpoint: 'tcp:8080', 'unix:/run/x'")
]
Secret = Annotated[str, Meta(extra={"unit": "secret"}, description="a secret; shown as '***' everywhere")]
