"""How serving ends without losing what was accepted.

The order, and why: readiness goes off first, so that load balancers look elsewhere while everything is still served;
meanwhile every HTTP response says ``Connection: close``, so that busy clients leave by themselves. After
``drain_delay`` the ports close (what the kernel had queued is accepted first) and each protocol ends as it does: idle
connections at once, busy ones after their answer, WebSockets with 1001. What is left after ``drain_timeout`` is cut,
and each one is named in the log.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime

    from netapp.config.schema import ServerConfig
    from netapp.listeners.service import Listener
    from netapp.telemetry.health import Readiness
    from netapp.telemetry.metrics import Registry
    from netapp.timers import Timers

_log = Logger("netapp.drain")


class Phase(StrEnum):
    """Where a drain is; it only ever goes forward."""

    SERVING = "serving"
    ANNOUNCED = "announced"
    DRAINING = "draining"
    DRAINED = "drained"


class Drain:
    """Ends the serving of ``listeners``, once."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        readiness: Readiness,
        config: ServerConfig,
        *,
        clock: IReactorTime,
        timers: Timers,
        registry: Registry,
    ) -> None:
        self.phase = Phase.SERVING
        self._listeners = listeners
        self._readiness = readiness
        self._config = config
        self._clock = clock
        self._timers = timers
        self._running: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._pause: Deferred[Any] | None = None
        self._hurry = False
        state = registry.gauge("netapp_drain_state", "1 for the phase that the drain is in.", ("phase",))
        for phase in Phase:
            state.child(phase).read = lambda phase=phase: float(self.phase is phase)
        ended = registry.counter(
            "netapp_drain_connections_total",
            "Connections that were open when the ports closed, by outcome.",
            ("outcome",),
        )
        self._finished, self._cut = ended.child("finished"), ended.child("cut")
        self._seconds = registry.gauge("netapp_drain_duration_seconds", "How long the drain took.").child()

    def start(self) -> Deferred[None]:
        """Begin, unless it has begun; the Deferred fires when everything is closed."""
        done: Deferred[None] = Deferred()
        if self.phase is Phase.DRAINED:
            done.callback(None)
            return done
        self._waiting.append(done)
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: _log.failure("the drain failed", failure))
            self._running.addBoth(self._done)
        return done

    def hurry(self) -> None:
        """Do not wait any longer: cut what is left."""
        self._hurry = True
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()

    async def _run(self) -> None:
        begun = self._timers.now()
        self.phase = Phase.ANNOUNCED
        self._readiness.not_ready("draining", "the server is stopping")
        count = self._count()
        _log.info(
            "draining: {count} connections open; ports close in {delay:g} s",
            count=count,
            delay=0 if self._hurry else self._config.drain_delay,
        )
        for listener in self._listeners:
            listener.wind_down()
        await self._wait(self._config.drain_delay)
        self.phase = Phase.DRAINING
        await DeferredList([stopped for one in self._listeners if (stopped := one.stop_listening()) is not None])
        count = self._count()
        for listener in self._listeners:
            listener.drain()
        await self._until_empty(self._config.drain_timeout)
        cut = self._cut_what_is_left()
        if cut:
            await self._until_empty(1.0)
        self._finished.value += count - cut
        self._cut.value += cut
        seconds = self._timers.now() - begun
        self._seconds.set(seconds)
        _log.info(
            "drained in {seconds:.3f} s: {finished} connections finished, {cut} were cut",
            seconds=seconds,
            finished=count - cut,
            cut=cut,
        )

    def _count(self) -> int:
        return sum(len(listener.connections) for listener in self._listeners)

    def _cut_what_is_left(self) -> int:
        left = [connection for listener in self._listeners for connection in listener.connections.values()]
        now = self._timers.now()
        for connection in left:
            _log.warn(
                "cut {peer} ({protocol}, {state}) after {age:.3f} s: {why}",
                why="told to end at once"
                if self._hurry
                else f"not done {self._config.drain_timeout:g} s after the ports closed",
                **connection.as_dict(now),
            )
            connection.cut()
        return len(left)

    async def _until_empty(self, seconds: float) -> None:
        """Wait until no connection is left, for at most ``seconds``."""
        empty = DeferredList([listener.when_empty() for listener in self._listeners], consumeErrors=True)
        if self._hurry and seconds > 1.0:
            return
        timeout = self._clock.callLater(seconds, empty.cancel)
        self._pause = empty
        await empty.addErrback(lambda _: None)
        self._pause = None
        if timeout.active():
            timeout.cancel()

    async def _wait(self, seconds: float) -> None:
        if seconds and not self._hurry:
            self._pause = deferLater(self._clock, seconds)
            await self._pause.addErrback(lambda _: None)
            self._pause = None

    def _done(self, _: object) -> None:
        self.phase = Phase.DRAINED
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
