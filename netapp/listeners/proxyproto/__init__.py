"""The PROXY protocol, versions 1 and 2: how a proxy tells whose connection it relays.

The specification is HAProxy's ``doc/proxy-protocol.txt``; the section numbers in this package are its own.

* :mod:`.policy` says from whom a header is believed and how long it is waited for.
* :mod:`.parser` reads a header of either version, incrementally; :mod:`.v1` and :mod:`.v2` read and write one each.
* :mod:`.header` is what a header says, :mod:`.tlv` what version 2 may add to it.

Everything here is pure: who the peer is, the clock and the socket are the caller's. The caller asks for a header only
of peers in ``ProxyPolicy.trusted``, because whoever may send one may claim to be anybody.
"""

from netapp.listeners.proxyproto.header import Command, Family, NoHeader, ProxyHeader
from netapp.listeners.proxyproto.parser import ProxyParser
from netapp.listeners.proxyproto.policy import ProxyPolicy
from netapp.listeners.proxyproto.tlv import ProxySsl, SslClient, SslSubtype, TlvType, write_ssl
from netapp.listeners.proxyproto.v1 import V1Parser, encode_v1
from netapp.listeners.proxyproto.v2 import V2Parser, encode_v2

__all__ = [
    "Command",
    "Family",
    "NoHeader",
    "ProxyHeader",
    "ProxyParser",
    "ProxyPolicy",
    "ProxySsl",
    "SslClient",
    "SslSubtype",
    "TlvType",
    "V1Parser",
    "V2Parser",
    "encode_v1",
    "encode_v2",
    "write_ssl",
]
