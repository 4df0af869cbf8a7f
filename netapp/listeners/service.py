"""A listener: an endpoint, its defences, and the protocols behind them, as a Twisted service.

It never imports a protocol: it is given factories, so that a user's own gets everything that the built-in ones get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Factory, ServerFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from netapp.errors import End, StartupError
from netapp.listeners.access import AddressSet
from netapp.listeners.admission import Admission, AdmissionPolicy
from netapp.listeners.connection import Connection
from netapp.listeners.detect import Detection
from netapp.listeners.metrics import ListenerMetrics
from netapp.listeners.poller import Poller, reactor_for_transports
from netapp.listeners.port import ListeningReactor
from netapp.listeners.stages import TLS_ROUTE, Tls
from netapp.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory

    from netapp.listeners.proxyproto import ProxyPolicy
    from netapp.telemetry.metrics import Registry
    from netapp.timers import Timers

HANDSHAKE_TIMEOUT = 10.0

_log = Logger("netapp.connection")


class Listener(Service):
    """Serves ``factory`` on ``endpoint``, a Twisted server endpoint description such as ``tcp:8080``.

    ``kind`` is the protocol's name in logs and in ``/connections``. ``context`` makes TLS connections (an
    IOpenSSLServerConnectionCreator, such as :class:`netapp.listeners.tls.TlsStore`). With ``detection``, ``factories``
    has a factory for each name that it decides for; ``factory`` is then unused. Times are seconds, sizes bytes.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        factory: IProtocolFactory | None = None,
        *,
        reactor: Any,
        timers: Timers,
        registry: Registry,
        kind: str = "",
        admission: AdmissionPolicy | None = None,
        proxy: ProxyPolicy | None = None,
        context: Any = None,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        detection: Detection | None = None,
        factories: Mapping[str, IProtocolFactory] | None = None,
        idle_timeout: float = 0.0,
        write_timeout: float = 60.0,
        write_buffer: int = 1024 * 1024,
    ) -> None:
        self.name: str = name
        self.endpoint = endpoint
        self.kind = kind or type(factory).__name__
        self.factory: Any = factory
        self.factories = dict(factories or {})
        self.timers = timers
        self.proxy = proxy
        self.context = context
        self.handshake_timeout = handshake_timeout
        self.detection: Any = detection
        self.idle_timeout = idle_timeout
        self.write_timeout = write_timeout
        self.write_buffer = write_buffer
        self.policy = admission or AdmissionPolicy()
        self.admission = Admission(self.policy)
        self.metrics = ListenerMetrics(registry, name)
        self.connections: dict[str, Connection] = {}
        self.accepted = 0
        self.port: IListeningPort | None = None
        self.winding_down = self.draining = False
        self._emptied: list[Deferred[None]] = []
        self.poller: Any = None
        self._reactor = reactor
        self._trusted = AddressSet(proxy.trusted if proxy is not None else ())
        self._tls_factory: TLSMemoryBIOFactory | None = None
        self._inner_detection = self._without_tls(detection)
        self._check_detection()
        registry.before_scrape(lambda: self.metrics.refresh(self.connections.values()))

    def _check_detection(self) -> None:
        if self.detection is None:
            return
        if self._inner_detection is None:
            raise ValueError("detection leads to TLS, and to nothing within it")
        named = {name for name, _ in self.detection.routes} | {self.detection.fallback} - {None}
        if unknown := named - {TLS_ROUTE, *self.factories}:
            raise ValueError(f"detection leads to {', '.join(sorted(unknown))}, for which there is no factory")

    # -- listening

    def privilegedStartService(self) -> None:
        """Bind, before privileges are shed; StartupError when that fails."""
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """Bind, unless it is done."""
        if self.port is None:
            self._listen()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Stop listening, and cut what is still connected; the Deferred fires when nothing is."""
        super().stopService()
        self._cut()
        stopped = maybeDeferred(self.stop_listening)
        stopped.addCallback(lambda _: self._cut())  # who came while the port was closing
        stopped.addCallback(lambda _: self.when_empty())
        return stopped.addBoth(self._close_poller)

    def _close_poller(self, result: Any) -> Any:
        poller, self.poller = self.poller, None
        if isinstance(poller, Poller):
            poller.close()
        return result

    def _cut(self) -> None:
        for connection in list(self.connections.values()):
            connection.cut()

    def stop_listening(self) -> Deferred[None] | None:
        """Accept nothing more. What the kernel has queued already is accepted first: it was promised a server."""
        port, self.port = self.port, None
        if port is None:
            return None
        _log.debug("{listener} stops listening", listener=self.name)
        stopped: Deferred[None] | None = getattr(port, "close_in_order", port.stopListening)()
        return stopped

    def wind_down(self) -> None:
        """Tell every connection, and each that still comes, that the server will stop."""
        self.winding_down = True
        for connection in list(self.connections.values()):
            connection.wind_down()

    def drain(self) -> None:
        """Have every connection finish what is under way and close, those that are not there yet, too."""
        self.draining = True
        for connection in list(self.connections.values()):
            connection.drain()

    def when_empty(self) -> Deferred[None]:
        """Return a Deferred that fires when no connection is open; it may be cancelled."""
        empty: Deferred[None] = Deferred(self._emptied.remove)
        self._emptied.append(empty)
        self._tell_if_empty()
        return empty

    def _tell_if_empty(self) -> None:
        while self._emptied and not self.connections:  # whoever is told may cancel another, or open a connection
            self._emptied.pop(0).callback(None)

    def _listen(self) -> None:
        reactor = self._reactor
        if IReactorFDSet.providedBy(reactor):
            reactor = ListeningReactor(reactor, self)
        outcome: list[Any] = []
        try:
            listening = serverFromString(reactor, self.endpoint).listen(_Doorman(self)).addBoth(outcome.append)
        except Exception as error:  # Twisted's parsers raise what comes: ValueError, TypeError, KeyError, IndexError
            raise self._cannot_listen(error) from error
        if not outcome:
            listening.cancel()
            raise self._cannot_listen(TimeoutError("it does not listen at once, and so cannot be waited for"))
        result = outcome[0]
        if isinstance(result, Failure):
            raise self._cannot_listen(cast("BaseException", result.value))
        self.port = result
        self.winding_down = self.draining = False
        self.poller = reactor_for_transports(self._reactor) if isinstance(reactor, ListeningReactor) else None

    def _cannot_listen(self, error: BaseException) -> StartupError:
        cause = getattr(error, "socketError", error)
        text = getattr(cause, "strerror", None) or str(cause)
        return StartupError(f"listener {self.name}: cannot listen on {self.endpoint}: {text}")

    def backlog(self, asked: int) -> int:
        """Return the backlog to listen with: the endpoint's own, if its description has one."""
        return asked if "backlog=" in self.endpoint else self.policy.backlog

    def use_context(self, context: Any) -> None:
        """Take the TLS context of an ``ssl:`` endpoint, unless the listener has its own."""
        if self.context is None:
            self.context = context

    def authority(self) -> str:
        """Return ``host:port`` as it was bound; empty before that, and for what has no port (a UNIX socket)."""
        bound = self.port.getHost() if self.port is not None else None
        port = getattr(bound, "port", None)
        if port is None:
            return ""
        host = getattr(bound, "host", "")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    # -- a connection's way in

    def admit(self, addr: IAddress) -> Connection | None:
        """Decide over a connection that the kernel has accepted; None refuses it."""
        self.accepted += 1
        host: str = getattr(addr, "host", "")
        trusted = self.proxy is not None and (not host or host in self._trusted)
        rule, key = (None, "") if trusted else self._screen(host)
        if rule is None:
            rule = self._verdict(self.admission.enter(self.timers.now()))
            if rule is not None:
                self.admission.forget(key)
        if rule is not None:
            self._refuse(host, rule)
            return None
        port = int(getattr(addr, "port", 0))
        peer = Peer(f"{self.name}-{self.accepted:x}", self.name, host, port, proxy=(host or "unix") if trusted else "")
        return Connection(self, peer, key)

    def give_back(self, connection: object) -> None:
        """Forget a connection that was admitted, if it was, and could not be opened."""
        if isinstance(connection, Connection):
            self.admission.leave(connection.key)

    def identify(self, connection: Connection) -> bool:
        """Hold the client that a proxy named to the rules for clients; False when it was refused, and closed."""
        rule, connection.key = self._screen(connection.peer.host)
        connection.socket_transport.client_address = self.client_address(connection)
        if rule is None:
            return True
        self.metrics.refused(rule)
        connection.refuse(rule)
        return False

    def _screen(self, host: str) -> tuple[str | None, str]:
        """Hold a client to the access lists and to its share; return the rule that refuses, or None, and its key."""
        rule = self._verdict(self.admission.permits(host))
        if rule is not None:
            return rule, ""
        rule, key = self.admission.identify(host)
        return self._verdict(rule), key

    def _verdict(self, rule: str | None) -> str | None:
        if rule is not None and self.policy.dry_run:
            self.metrics.would_refuse(rule)
            return None
        return rule

    def _refuse(self, host: str, rule: str) -> None:
        self.metrics.refused(rule)
        _log.info("{listener} refused {peer}: {rule}", listener=self.name, peer=host or "unix", rule=rule)

    def accept_paused(self, error: OSError, seconds: float) -> None:
        """Count and log that there was no descriptor or memory for another connection."""
        self.metrics.accept_paused(error)
        _log.warn(
            "{listener} cannot accept, and pauses for {seconds:.3f} s: {error}",
            listener=self.name,
            seconds=seconds,
            error=error.strerror,
        )

    # -- what stages ask for

    @property
    def detects_tls(self) -> bool:
        """Whether the first bytes tell TLS from the rest."""
        return any(name == TLS_ROUTE for name, _ in self.detection.routes)

    def detection_for(self, connection: Connection) -> Detection:
        """Return the detection for what comes now: inside TLS there is no second TLS."""
        return self._inner_detection if connection.peer.tls is not None else self.detection  # type: ignore[return-value]

    def make_tls(self, stage: Any) -> Any:
        """Make the TLS protocol of one connection, around ``stage``."""
        factory = self._tls_factory
        if factory is None:
            factory = self._tls_factory = TLSMemoryBIOFactory(self.context, False, Factory(), self._reactor)  # noqa: FBT003
            factory.noisy = False
            factory.protocol = Tls
        return factory.protocol(factory, stage)

    def handshakes(self, outcome: str) -> None:
        """Count a TLS handshake."""
        self.metrics.handshakes.child(self.name, outcome).value += 1

    @staticmethod
    def client_address(connection: Connection) -> IAddress:
        """Return the client's address for a factory: behind a trusted proxy, the one that it named."""
        peer = connection.peer
        if not peer.host:
            return UNIXAddress(None)
        kind = IPv6Address if ":" in peer.host else IPv4Address
        return kind("TCP", peer.host, peer.port)

    # -- counting

    def opened(self, connection: Connection) -> None:
        """One more connection."""
        self.connections[connection.peer.id] = connection
        self.metrics.opened.value += 1
        _log.debug(
            "{peer} connected to {listener}", listener=self.name, peer=str(connection.peer), id=connection.peer.id
        )

    def closed(self, connection: Connection, end: End, why: BaseException | None) -> None:
        """One connection less: give back what it held, count how it ended, and log it."""
        if self.connections.pop(connection.peer.id, None) is None:
            return
        self.admission.leave(connection.key)
        seconds = self.timers.now() - connection.started
        self.metrics.closed(connection, end, seconds)
        _log.info(
            "{peer} {end} after {seconds:.3f} s",
            listener=self.name,
            id=connection.peer.id,
            peer=str(connection.peer),
            protocol=connection.kind or connection.state_name,
            bytes_in=connection.bytes_in,
            bytes_out=connection.bytes_out,
            seconds=round(seconds, 6),
            end=str(end),
            proxy=connection.peer.proxy or None,
            why=_reason(end, why),
        )
        if self._emptied:
            self._tell_if_empty()

    @staticmethod
    def _without_tls(detection: Detection | None) -> Detection | None:
        if detection is None:
            return None
        routes = [route for route in detection.routes if route[0] != TLS_ROUTE]
        fallback = None if detection.fallback == TLS_ROUTE else detection.fallback
        return Detection(routes, fallback, detection.policy) if routes or fallback else None


def _reason(end: End, why: BaseException | None) -> str | None:
    """Say more than the end's name does, where there is more to say."""
    return None if why is None or end in {End.PEER_DONE, End.LOCAL_DONE} else str(why)


class _Doorman(ServerFactory):
    """The factory that the endpoint sees."""

    noisy = False

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def doStart(self) -> None:
        for factory in self._factories():
            factory.doStart()
        super().doStart()

    def doStop(self) -> None:
        super().doStop()
        for factory in self._factories():
            factory.doStop()

    def buildProtocol(self, addr: IAddress) -> Connection | None:  # type: ignore[override]  # a protocol without a factory
        return self._listener.admit(addr)

    def _factories(self) -> list[Any]:
        listener = self._listener
        return [listener.factory] if listener.factory is not None else list(listener.factories.values())
