"""Giving a connection to another protocol in mid-stream, whatever lies between it and the socket."""

from __future__ import annotations

from typing import Any


def replace_protocol(transport: Any, old: object, new: Any) -> None:
    """Make ``transport`` deliver to ``new`` what it delivered to ``old``; ``new`` is not yet connected.

    Works on a plain transport, on Twisted's TLS, and behind a netapp listener; raises TypeError when ``old`` is not
    what the transport carries, for then somebody else is between them and would be cut out.
    """
    if getattr(transport, "wrappedProtocol", None) is old:  # twisted.protocols.tls
        transport.wrappedProtocol = new
        return
    holder = getattr(transport, "protocol", None)
    if holder is old:
        transport.protocol = new
        return
    replace = getattr(holder, "replace", None)  # a netapp listener's connection
    if replace is None:
        raise TypeError(f"{transport!r} does not carry {old!r}")
    replace(new)
