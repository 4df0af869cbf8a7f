"""Who is at the other end, and what a protocol may offer to the listener that carries it.

A protocol needs none of these hooks: any Twisted protocol works behind a listener. One that has them gets more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from netapp.errors import NetappError


class TlsInfo(Struct, frozen=True):
    """What the TLS handshake settled. ``subject`` and ``names`` are of a *verified* client certificate, else empty."""

    version: str = ""
    cipher: str = ""
    server_name: str = ""
    alpn: str = ""
    subject: str = ""
    names: tuple[str, ...] = ()
    fingerprint: str = ""
    """SHA-256 of the verified client certificate, hexadecimal."""


class Peer(Struct):
    """The other end of one accepted connection.

    ``host`` and ``port`` are the client's: where a trusted proxy spoke the PROXY protocol, the ones it named, and
    ``proxy`` is then its own address. A UNIX socket has an empty host and port 0.
    """

    id: str
    listener: str = ""
    host: str = ""
    port: int = 0
    local_host: str = ""
    local_port: int = 0
    proxy: str = ""
    tls: TlsInfo | None = None
    proxy_tlvs: dict[int, bytes] | None = None

    def __str__(self) -> str:
        """Address and port in the form of a URL's authority: ``[::1]:80``."""
        if not self.host:
            return "unix"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PeerAware(Protocol):
    """A protocol that wants to know its peer; called once, before ``makeConnection``."""

    def set_peer(self, peer: Peer) -> None:
        """Take the peer's description."""


class Drainable(Protocol):
    """A protocol that can finish what is under way and then close by itself."""

    def drain(self) -> None:
        """Take no more work; close when what was accepted has been answered.

        A protocol without this method is left to end by itself until the drain's timeout.
        """


class Announcing(Protocol):
    """A protocol that can tell its peer beforehand that the server will stop."""

    def wind_down(self) -> None:
        """Say so with the next answer; go on serving until :meth:`Drainable.drain`."""


class Declaring(Protocol):
    """A protocol that says why it closed, and what it is doing."""

    ending: NetappError | None
    """Set before closing: why we ended the connection. None leaves it to what the transport reports."""
    state: str
    """One word for ``/connections``: idle, active, closing."""
