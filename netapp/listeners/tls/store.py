"""The certificates in service, and their successors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from netapp.errors import StartupError
from netapp.listeners.tls.contexts import Contexts
from netapp.listeners.tls.files import look
from netapp.telemetry.metrics import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.protocols.tls import TLSMemoryBIOProtocol

    from netapp.listeners.tls.files import KeyPair, Look
    from netapp.listeners.tls.policy import TlsPolicy

_DAY: Final = 86400.0
_EXPIRES_SOON: Final = 14 * _DAY
"""Seconds. Automatic renewal begins a month before the end, so two weeks before it something is wrong with it."""


@implementer(IOpenSSLServerConnectionCreator)
class TlsStore:
    """Makes the TLS side of each connection from the certificates in service.

    ``listener`` is the metrics' label; ``wall`` is the wall clock that certificates expire by, in seconds since 1970.
    Raises StartupError, which names the file at fault; a certificate that has expired is served, with a warning.

    It takes the place of a context factory everywhere in Twisted: ``TLSMemoryBIOFactory(store, False, factory)``.
    """

    _log = Logger()

    def __init__(
        self,
        policy: TlsPolicy,
        *,
        listener: str = "",
        registry: Registry | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.policy = policy
        self.listener = listener
        self._wall = wall
        registry = registry or Registry()
        reloads = registry.counter(
            "netapp_tls_reloads_total", "Attempts to take new TLS files into service.", ("listener", "outcome")
        )
        self._ok, self._failed = reloads.child(listener, "ok"), reloads.child(listener, "failed")
        self._not_after = registry.gauge(
            "netapp_tls_certificate_not_after_timestamp_seconds",
            "When the certificate in service expires, in seconds since 1970.",
            ("listener", "name"),
        )
        self.seen: Look = look(policy)
        """The files as they were when they were last read, with success or not."""
        self._install(Contexts.read(policy))

    @property
    def pairs(self) -> tuple[KeyPair, ...]:
        """The certificates in service, the default one first."""
        return self._contexts.pairs

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: ARG002 - Twisted's
        """Make a connection of the generation in service, to which it then belongs until it ends."""
        return SSL.Connection(self._contexts.default, None)

    def look(self) -> Look:
        """Return what the files look like now, to be compared with :attr:`seen`."""
        return look(self.policy)

    def changed(self) -> bool:
        """Whether a file has changed, come or gone since they were last read."""
        return self.look() != self.seen

    def reload(self) -> bool:
        """Read all files anew and serve them to new connections; existing ones are not touched.

        If anything is wrong with any of them, what is in service stays, the fault is logged as an error, and False is
        returned. Never raises.
        """
        self.seen = self.look()
        try:
            contexts = Contexts.read(self.policy)
        except StartupError as problem:
            self._log.error(
                "new TLS files of listener {listener} are not used, the old ones stay in service: {problem}",
                listener=self.listener,
                problem=str(problem),
            )
        except Exception:  # noqa: BLE001 - a defect of ours, and the old files are still good
            self._log.failure("reading the TLS files of listener {listener} failed", listener=self.listener)
        else:
            self._install(contexts)
            self._ok.inc()
            self._log.info(
                "listener {listener} serves its TLS files anew: {count} certificates",
                listener=self.listener,
                count=len(contexts.pairs),
            )
            return True
        self._failed.inc()
        return False

    def _install(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._forget_expiry()
        for pair in contexts.pairs:
            self._note_expiry(pair)
        self._note_shadowed(contexts.pairs)

    def _forget_expiry(self) -> None:
        for labels in [labels for labels in self._not_after.children if labels[0] == self.listener]:
            del self._not_after.children[labels]

    def _note_expiry(self, pair: KeyPair) -> None:
        """Of two certificates with the same first name the one that expires first is shown: it is the one to renew."""
        not_after = pair.certificate.not_valid_after_utc.timestamp()
        gauge = self._not_after.child(self.listener, pair.names[0] if pair.names else pair.source)
        gauge.set(min(not_after, gauge.value or not_after))
        left = not_after - self._wall()
        if left < _EXPIRES_SOON:
            self._log.warn(
                "the certificate {source} of listener {listener} {verb} {when}",
                source=pair.source,
                listener=self.listener,
                verb="expires" if left > 0 else "has expired: since",
                when=pair.certificate.not_valid_after_utc.isoformat(),
            )

    def _note_shadowed(self, pairs: tuple[KeyPair, ...]) -> None:
        """Say which certificates are never served: another one comes first for each of their names."""
        taken: set[str] = set()
        for pair in pairs:
            if pair is not pairs[0] and taken.issuperset(pair.names):
                self._log.warn(
                    "the certificate {source} of listener {listener} is never served: it has no DNS name, "
                    "or other certificates come first for all that it has",
                    source=pair.source,
                    listener=self.listener,
                )
            taken.update(pair.names)
