"""Who may connect, how many at a time, how fast. Pure: ``now`` is an argument and a decision is returned.

The order is from the cheapest rule to the dearest, so that a flood from one address is refused before it uses up what
is there for everybody: access lists, the client's own share, the total, the rate.
"""

from __future__ import annotations

from msgspec import Struct

from netapp.listeners.access import AddressSet, client_key
from netapp.units import Cidr


class AdmissionPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits at the door of one listener."""

    max_connections: int = 10_000
    """Connections open at a time; 0 for no limit."""
    max_per_client: int = 256
    """Connections open at a time for one client: an IPv4 address, or an IPv6 /64, which is what one subscriber has
    (RFC 6177). Trusted proxies are exempt, the clients they name are not. 0 for no limit."""
    accept_rate: float = 0.0
    """Connections accepted a second, on average; 0 for no limit."""
    accept_burst: int = 0
    """Connections that may come at once before ``accept_rate`` holds; 0 for as many as come in one second."""
    backlog: int = 1024
    """Connections that the kernel keeps waiting to be accepted, where the endpoint does not say it itself; the kernel's
    own maximum (net.core.somaxconn) holds as well."""
    allow: tuple[Cidr, ...] = ()
    """Networks that may connect; empty for everybody."""
    deny: tuple[Cidr, ...] = ()
    """Networks that may not, even if they are among those allowed."""
    dry_run: bool = False
    """Count what would be refused, and refuse nothing."""

    def __post_init__(self) -> None:
        """Refuse negative limits, and networks that cannot be read."""
        for name in ("max_connections", "max_per_client", "accept_rate", "accept_burst"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.backlog < 1:
            raise ValueError("backlog must be at least 1")
        AddressSet(self.allow)
        AddressSet(self.deny)


class Admission:
    """The counts behind one listener's policy.

    A connection enters once, may then be identified as a proxy's client, and leaves once. The answers are the name of
    the rule that refuses, or None; under ``dry_run`` the caller goes on all the same.
    """

    __slots__ = ("_allow", "_clients", "_deny", "_policy", "_refilled", "_tokens", "open")

    def __init__(self, policy: AdmissionPolicy) -> None:
        self._policy = policy
        self._allow = AddressSet(policy.allow)
        self._deny = AddressSet(policy.deny)
        self._clients: dict[str, int] = {}
        self._tokens = self._burst
        self._refilled = 0.0
        self.open = 0

    @property
    def clients(self) -> int:
        """How many clients have a connection open."""
        return len(self._clients)

    def enter(self, now: float) -> str | None:
        """Count one more connection, unless the total or the rate is used up: then it is refused, and not counted."""
        policy = self._policy
        refused = None
        if policy.max_connections and self.open >= policy.max_connections:
            refused = "max_connections"
        elif policy.accept_rate and not self._take_token(now):
            refused = "accept_rate"
        if refused is None or policy.dry_run:
            self.open += 1
        return refused

    def permits(self, host: str) -> str | None:
        """Hold an address against the access lists; a UNIX socket's peer has none, and file permissions instead."""
        if not host:
            return None
        if self._deny and host in self._deny:
            return "deny"
        if self._allow and host not in self._allow:
            return "allow"
        return None

    def identify(self, host: str) -> tuple[str | None, str]:
        """Count a connection to its client. Return the rule that refuses, and the key to :meth:`leave` with.

        A connection that is refused is not counted to its client, and its key is empty.
        """
        policy = self._policy
        key = client_key(host)
        if not key or not policy.max_per_client:
            return None, ""
        count = self._clients.get(key, 0)
        refused = "max_per_client" if count >= policy.max_per_client else None
        if refused is not None and not policy.dry_run:
            return refused, ""
        self._clients[key] = count + 1
        return refused, key

    def forget(self, key: str) -> None:
        """Undo :meth:`identify`."""
        if key:
            count = self._clients[key] - 1
            if count:
                self._clients[key] = count
            else:
                del self._clients[key]

    def leave(self, key: str) -> None:
        """One connection less; ``key`` is what :meth:`identify` gave, or empty."""
        self.open -= 1
        self.forget(key)

    @property
    def _burst(self) -> float:
        return float(self._policy.accept_burst or max(1.0, self._policy.accept_rate))

    def _take_token(self, now: float) -> bool:
        """Token bucket: ``accept_rate`` tokens a second, at most the burst of them."""
        if self._refilled:
            self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self._policy.accept_rate)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
