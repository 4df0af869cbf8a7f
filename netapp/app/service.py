"""The service that twistd starts: everything a configuration describes, and how it begins and ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.logger import Logger

from netapp import __version__
from netapp.app.drain import Drain, Phase
from netapp.config import redacted
from netapp.monitor.loop import LoopMonitor
from netapp.telemetry.health import Health, Readiness, Vitals
from netapp.telemetry.metrics import Registry
from netapp.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twisted.internet.defer import Deferred

    from netapp.config import Config
    from netapp.listeners.connection import Connection
    from netapp.listeners.service import Listener

_log = Logger("netapp.app")

STARTING = "starting"


class NetappService(MultiService):
    """Listeners, the admin listener and the monitors of one process.

    What all of them share is made here: ``timers``, ``registry``, ``health``, ``readiness``. Listeners are added with
    :meth:`add_listener`, what is to be done on SIGHUP with :meth:`on_reload`.
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        super().__init__()
        self.config = config
        self.reactor = reactor
        self.timers = Timers(reactor)
        self.registry = Registry()
        self.listeners: list[Listener] = []
        self.admin: Listener | None = None
        self.paths: dict[str, Sequence[str]] = {}
        """What HTTP listeners offer, for the banner."""
        self.loop_monitor = LoopMonitor(reactor, self.registry, config.monitor)
        self.loop_monitor.setServiceParent(self)
        self.readiness = Readiness()
        self.readiness.not_ready(STARTING, "the listeners are not bound yet")
        self.health = Health(
            config.health,
            Vitals(
                event_loop_lag=self.loop_monitor.lag,
                connections=self.open_connections,
                connection_limit=self.connection_limit,
            ),
            version=__version__,
        )
        self._drain = Drain(
            self.listeners,
            self.readiness,
            config.server,
            clock=reactor,
            timers=self.timers,
            registry=self.registry,
        )
        self._reloads: list[Callable[[], object]] = []
        self._last: list[Callable[[], object]] = []
        self.registry.gauge("netapp_build_info", "1; the version is in the label.", ("version",)).child(
            __version__
        ).set(1)

    def add_listener(self, listener: Listener) -> None:
        """Serve with ``listener``, and drain it before the end."""
        self.listeners.append(listener)
        listener.setServiceParent(self)

    def set_admin(self, listener: Listener) -> None:
        """Be operated through ``listener``, which answers until the very end."""
        self.admin = listener
        listener.setServiceParent(self)

    def on_reload(self, action: Callable[[], object]) -> None:
        """Call ``action`` at every :meth:`reload`."""
        self._reloads.append(action)

    def on_stopped(self, action: Callable[[], object]) -> None:
        """Call ``action`` when everything has stopped."""
        self._last.append(action)

    # -- beginning and ending

    def startService(self) -> None:
        """Start everything and say where it is."""
        super().startService()
        self.readiness.ready(STARTING)
        for line in self.banner():
            # a format of its own for each line: the log samples events of one format, and every URL is to be seen
            _log.info(line.replace("{", "{{").replace("}", "}}"))

    def stopService(self) -> Deferred[Any]:
        """Drain, then stop: whoever asked for it, a signal or a program."""
        return self.drain().addBoth(lambda _: MultiService.stopService(self)).addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        for action in self._last:
            action()
        return result

    def drain(self) -> Deferred[None]:
        """Take no more work and finish what is under way; the Deferred fires when no connection is left."""
        return self._drain.start()

    def end_now(self) -> None:
        """Cut what a drain still waits for."""
        self._drain.hurry()

    def reload(self) -> None:
        """Read certificates and open log files again; what fails keeps what there was."""
        _log.info("reloading certificates and log files")
        for action in self._reloads:
            try:
                action()
            except Exception:  # noqa: BLE001 - one that fails must not keep the others from reloading
                _log.failure("a part could not be reloaded")

    # -- looking at it

    @property
    def draining(self) -> bool:
        """Whether the end has begun."""
        return self._drain.phase is not Phase.SERVING

    def connections(self) -> Iterable[Connection]:
        """Yield every open connection, the admin listener's last."""
        for listener in (*self.listeners, *([self.admin] if self.admin is not None else [])):
            yield from list(listener.connections.values())

    def open_connections(self) -> int:
        """Count the open connections, without the admin listener's."""
        return sum(len(listener.connections) for listener in self.listeners)

    def connection_limit(self) -> int:
        """Add up what the listeners admit; 0 when one of them has no limit."""
        limits = [listener.policy.max_connections for listener in self.listeners]
        return 0 if 0 in limits else sum(limits)

    def redacted_config(self) -> dict[str, Any]:
        """Return the configuration without its secrets."""
        return redacted(self.config)

    def now(self) -> float:
        """Return the wall clock's time, for what is shown to people."""
        return time.time()

    def banner(self) -> Iterable[str]:
        """Say what is served where: every URL, as it can be put into a client."""
        yield f"netapp {__version__} serves"
        for listener in (*self.listeners, *([self.admin] if self.admin is not None else [])):
            for url in self._urls(listener):
                yield f"  {listener.name:<12} {listener.kind:<10} {url}"

    def _urls(self, listener: Listener) -> Iterable[str]:
        authority = listener.authority()
        secure = listener.context is not None
        if not authority:
            yield listener.endpoint
        elif listener.kind != "http":
            yield f"{'tls' if secure else 'tcp'}://{authority}"
        for path in self.paths.get(listener.name, ()) if authority else ():
            scheme = "ws" if path.startswith("/ws/") else "http"
            yield f"{scheme}{'s' if secure else ''}://{authority}{path}"
