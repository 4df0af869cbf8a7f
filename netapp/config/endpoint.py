"""Descriptions of Twisted server endpoints, as text: read, checked and changed without Twisted.

The grammar is that of ``twisted.internet.endpoints.serverFromString``: arguments divided by colons, an argument with
an equals sign has a name, a backslash takes the next character literally. Only what every reader would call a mistake
is refused here; which kinds there are is for Twisted's plugins to say.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*", re.ASCII)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_LARGEST_PORT: Final = 65535

_INTERNET = frozenset({"tcp", "tcp6", "ssl"})
_NAMED: Final = {
    "tcp": frozenset({"port", "interface", "backlog"}),
    "tcp6": frozenset({"port", "interface", "backlog"}),
    "unix": frozenset({"address", "mode", "backlog", "lockfile"}),
    "systemd": frozenset({"domain", "index", "name"}),
}
"""Named arguments of Twisted's own kinds (those of ``ssl:`` are many, and Twisted checks them)."""

_EVERYWHERE = {"tcp": "0.0.0.0", "tcp6": "::", "ssl": "0.0.0.0"}


class EndpointText(Struct, frozen=True):
    """An endpoint's description, taken apart.

    ``tcp:8080:backlog=50`` has the kind ``tcp``, the arguments ``("8080",)`` and the options ``{"backlog": "50"}``.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    options: dict[str, str] = {}

    def __str__(self) -> str:
        """Write the description, with colons, equals signs and backslashes escaped where they need it."""
        options = [f"{_quote(name)}={_quote(value)}" for name, value in self.options.items()]
        return ":".join([self.kind, *map(_quote, self.arguments), *options])

    @property
    def is_internet(self) -> bool:
        """Whether it listens on a TCP port that the description names."""
        return self.kind in _INTERNET

    @property
    def place(self) -> str:
        """The first argument, by position or by name: the path of a UNIX socket."""
        return self.arguments[0] if self.arguments else self.options.get("address", "")

    @property
    def port(self) -> str:
        """The TCP port as it was written; empty where there is none."""
        if not self.is_internet:
            return ""
        return self.arguments[0] if self.arguments else self.options.get("port", "")

    @property
    def host(self) -> str:
        """The address of the interface; that of all interfaces where none is named, empty where it has none."""
        return self.options.get("interface") or _EVERYWHERE.get(self.kind, "")

    @property
    def is_private(self) -> bool:
        """Whether only this machine can connect: a loopback address or a UNIX socket. Unknown kinds are not."""
        if self.kind == "unix":
            return True
        return self.is_internet and (self.host == "localhost" or _is_loopback(self.host))

    def with_port(self, port: int) -> EndpointText:
        """Return the same endpoint on another port; ValueError where it has none."""
        self._require_internet()
        options = {name: value for name, value in self.options.items() if name != "port"}
        return replace(self, arguments=(str(port), *self.arguments[1:]), options=options)

    def with_host(self, host: str) -> EndpointText:
        """Return the same endpoint on another interface; ValueError where it has none."""
        self._require_internet()
        return replace(self, options={**self.options, "interface": host})

    def overlaps(self, other: EndpointText) -> bool:
        """Say whether both cannot listen at once. Port 0 is a new port each time."""
        if self.kind == other.kind == "unix":
            return self.place == other.place
        if not (self.is_internet and other.is_internet):
            return self == other
        if int(self.port) != int(other.port) or int(self.port) == 0:
            return False
        return self.host == other.host or _covers(self.host, other.host) or _covers(other.host, self.host)

    def _require_internet(self) -> None:
        if not self.is_internet:
            raise ValueError(f"{self.kind!r} endpoints have neither a host nor a port")


def parse_endpoint(text: str) -> EndpointText:
    """Take an endpoint's description apart. Raises ValueError that says what is wrong with it."""
    if _UNSAFE.search(text):
        raise ValueError("expected an endpoint without control characters")
    kind, *rest = _split(text)
    if len(kind) != 1 or not _KIND.fullmatch(kind[0]) or not rest:
        raise ValueError("expected an endpoint such as 'tcp:8080:interface=127.0.0.1' or 'unix:/run/netapp.sock'")
    endpoint = EndpointText(
        kind[0],
        tuple(part[0] for part in rest if len(part) == 1),
        {part[0]: part[1] for part in rest if len(part) > 1},
    )
    _check(endpoint)
    return endpoint


def _check(endpoint: EndpointText) -> None:
    known = _NAMED.get(endpoint.kind)
    for name in endpoint.options:
        if known is not None and name not in known:
            allowed = ", ".join(sorted(known))
            raise ValueError(f"expected the options of a {endpoint.kind!r} endpoint ({allowed}), not {name!r}")
    if endpoint.is_internet:
        check_port(endpoint.port)
        if re.search(r"\s", endpoint.host):
            raise ValueError("expected an interface without white space")


def check_port(text: str) -> int:
    """Read a TCP port; ValueError where it is none."""
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) > _LARGEST_PORT:
        raise ValueError(f"expected a port from 0 to {_LARGEST_PORT}")
    return int(text)


def _split(text: str) -> list[list[str]]:
    """Divide at colons, and each part at its first equals sign; both lose their meaning behind a backslash."""
    parts = [[""]]
    characters = iter(text)
    for character in characters:
        part = parts[-1]
        if character == ":":
            parts.append([""])
        elif character == "=" and len(part) == 1:
            part.append("")
        elif character == "\\":
            part[-1] += next(characters, "\\")
        else:
            part[-1] += character
    return parts


def _quote(text: str) -> str:
    return re.sub(r"([:=\\])", r"\\\1", text)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _covers(everywhere: str, host: str) -> bool:
    """Say whether one address stands for all of the other's family.

    Whether ``::`` takes IPv4 as well is the system's choice (``net.ipv6.bindv6only``), and so for it to refuse.
    """
    return everywhere == ("::" if ":" in host else "0.0.0.0")
