"""Rules about addresses, asked once for each accepted connection.

An address has several spellings, and a rule must not depend on which one the socket used. So every host is reduced
first: an IPv4-mapped IPv6 address (``::ffff:192.0.2.7``, RFC 4291 §2.5.5.2), which is what a dual-stack listener
sees of an IPv4 client, counts as that IPv4 address, and a scope (``fe80::1%eth0``, RFC 4007 §11) says through which
interface a host is reached, not who it is.

Text that is no address is in no set and shares one admission key with all other such text, so that nonsense gains
neither a permission nor an allowance of its own.
"""

from __future__ import annotations

from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from netapp.units import parse_cidr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netapp.units import Network

INVALID_KEY = "invalid"
"""The admission key that all hosts which are no addresses share."""

_CACHED = 4096
"""Addresses remembered: as many as a busy listener's distinct clients of one moment; about 0.5 MB when full."""

_LONGEST = 64
"""Characters. The longest IPv6 text has 45 (INET6_ADDRSTRLEN less its NUL), and Linux's longest interface name 15."""

_MAPPED_PREFIX = 96
"""Bits of ``::ffff:0:0/96``, the IPv4-mapped addresses."""

_CLIENT_PREFIX = 64
"""Bits of an IPv6 address that stand for one client: a subscriber gets a /64 at least (RFC 6177, RFC 7421)."""

_Table = dict[int, dict[int, frozenset[int]]]
"""IP version → bits to shift away → what remains of each network's address."""


def read_address(host: str) -> IPv4Address | IPv6Address | None:
    """Reduce ``host`` to the one address it means: IPv4-mapped to IPv4, no scope. None where it is no address."""
    if len(host) > _LONGEST:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or (IPv6Address(int(address)) if address.scope_id else address)


class AddressSet:
    """The hosts of some networks: ``"192.0.2.7" in AddressSet(["192.0.2.0/24"])``.

    ``cidrs`` are networks as :func:`netapp.units.parse_cidr` reads them; ValueError for any other text. A network
    inside ``::ffff:0:0/96`` means its IPv4 counterpart; no other IPv6 network, not even ``::/0``, contains an IPv4
    client.

    A look-up costs one dictionary access for a host seen lately, and otherwise one parse and one set access for each
    distinct prefix length, however many networks there are.
    """

    __slots__ = ("_known", "networks")

    def __init__(self, cidrs: Iterable[str]) -> None:
        self.networks: tuple[Network, ...] = tuple(_read_network(text) for text in cidrs)
        self._known = lru_cache(_CACHED)(partial(_is_member, _tabulate(self.networks)))

    def __contains__(self, host: str) -> bool:
        # The length is looked at first, so that the cache never holds long text that came from a peer.
        return len(host) <= _LONGEST and self._known(host)

    def __bool__(self) -> bool:
        return bool(self.networks)

    def __repr__(self) -> str:
        return f"AddressSet([{', '.join(str(network) for network in self.networks)}])"


def client_key(host: str) -> str:
    """Return the key under which a client's connections are counted; never raises.

    An IPv4 address (also an IPv4-mapped one) is its own key; an IPv6 address is counted by its /64, because one
    subscriber has 2**64 of them. ``""``, a UNIX socket's peer, stays ``""``; anything else is :data:`INVALID_KEY`.
    """
    if not host:
        return ""
    return _client_key(host) if len(host) <= _LONGEST else INVALID_KEY


@lru_cache(_CACHED)
def _client_key(host: str) -> str:
    address = read_address(host)
    if address is None:
        return INVALID_KEY
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address), _CLIENT_PREFIX), strict=False))


def _read_network(text: str) -> Network:
    network = parse_cidr(text)
    if isinstance(network, IPv4Network) or network.prefixlen < _MAPPED_PREFIX:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


def _tabulate(networks: Iterable[Network]) -> _Table:
    table: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
    for network in networks:
        shift = network.max_prefixlen - network.prefixlen
        table[network.version].setdefault(shift, set()).add(int(network.network_address) >> shift)
    return {version: {shift: frozenset(kept) for shift, kept in rows.items()} for version, rows in table.items()}


def _is_member(table: _Table, host: str) -> bool:
    address = read_address(host)
    if address is None:
        return False
    value = int(address)
    return any(value >> shift in kept for shift, kept in table[address.version].items())
