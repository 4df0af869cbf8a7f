"""Looks at the TLS files from time to time, and has them read anew when they have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.application.service import Service
from twisted.internet.task import LoopingCall

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from netapp.listeners.tls.files import Look
    from netapp.listeners.tls.store import TlsStore

_REFRESH: Final = 86400.0
"""Seconds between unconditional reloads: the keys of session tickets live in the contexts and must not live long
(RFC 9325 §3.4), and a certificate that is about to expire is warned of once a day."""


class TlsReloader(Service):
    """Reloads ``store`` when its files have changed and the change has settled.

    Settled means that two looks, ``policy.reload_interval`` seconds apart, saw the same: a certificate that has been
    written and whose key has not is not a change to act upon yet. Files that turn out bad are not read again, and not
    complained about again, until they change once more. With an interval of 0 it does nothing.
    """

    def __init__(self, store: TlsStore, clock: IReactorTime) -> None:
        self._store = store
        self._clock = clock
        self._pending: Look | None = None
        self._loops: list[LoopingCall] = []

    def startService(self) -> None:
        """Begin to look; the first time one interval from now."""
        super().startService()
        interval = self._store.policy.reload_interval
        if interval:
            self._repeat(interval, LoopingCall(self._look))
            self._repeat(_REFRESH, LoopingCall(self._store.reload))

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()

    def _repeat(self, seconds: float, loop: LoopingCall) -> None:
        loop.clock = self._clock
        loop.start(seconds, now=False)
        self._loops.append(loop)

    def _look(self) -> None:
        found = self._store.look()
        if found == self._store.seen:
            self._pending = None
        elif found == self._pending:
            self._pending = None
            self._store.reload()
        else:
            self._pending = found
