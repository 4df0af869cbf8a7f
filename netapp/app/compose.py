"""From a configuration to services: the only place that knows which protocol is behind which kind of listener.

Nothing is bound here. What a file's syntax cannot tell (a module that does not import, a certificate that does not
load, an endpoint that Twisted does not know) is found here, all of it, before anything starts.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolFactory

from netapp.admin.pages import admin_pages
from netapp.app.service import NetappService
from netapp.errors import ConfigError, StartupError
from netapp.filters.accesslog import access_log
from netapp.filters.deadline import deadline
from netapp.filters.metrics import request_metrics
from netapp.filters.requestid import request_id
from netapp.http.responder import compose as stack
from netapp.listeners.admission import AdmissionPolicy
from netapp.listeners.detect import DETECTORS, Detection
from netapp.listeners.service import Listener
from netapp.listeners.tls import TlsReloader, TlsStore
from netapp.protocols.calculator import CalculatorFactory
from netapp.protocols.echo import EchoFactory
from netapp.protocols.http1 import Http1Factory
from netapp.protocols.websocket import EchoService, websocket_responder
from netapp.responders.welcome import welcome_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from netapp.config import Config
    from netapp.config.schema import ListenerConfig

HTTP_ALPN = ("http/1.1",)
ADMIN_CONNECTIONS = 256
"""Connections that the admin listener admits: operators and scrapers, never the public."""


def compose(config: Config, reactor: Any) -> NetappService:
    """Build the application. Raises ConfigError with every problem; binds nothing."""
    service = NetappService(config, reactor)
    composer = _Composer(config, service)
    for name in config.listeners:
        composer.attempt(f"listeners.{name}", lambda name=name: service.add_listener(composer.listener(name)))
    if config.admin.enabled:
        composer.attempt("admin", lambda: service.set_admin(composer.admin()))
    if composer.problems:
        raise ConfigError(composer.problems)
    return service


class _Composer:
    """Builds listeners and collects what is wrong with them."""

    def __init__(self, config: Config, service: NetappService) -> None:
        self.problems: list[str] = []
        self._config = config
        self._service = service

    def attempt(self, path: str, build: Any) -> None:
        """Build one part; a problem is noted under ``path`` and the next part is tried."""
        try:
            build()
        except _Problem as problem:
            self.problems.append(f"{problem.path}: {problem}")
        except (StartupError, ValueError, OSError) as problem:
            self.problems.append(f"{path}: {problem}")

    def listener(self, name: str) -> Listener:
        """Build the listener ``name``."""
        service, config = self._service, self._config.listeners[name]
        path = f"listeners.{name}"
        self._check_endpoint(f"{path}.endpoint", config.endpoint)
        store = self._tls_store(name, config)
        detection, factories = self._detection(name, config)
        return Listener(
            name,
            config.endpoint,
            None if detection is not None else self._factory(name, config.kind, config),
            reactor=service.reactor,
            timers=service.timers,
            registry=service.registry,
            kind=config.kind,
            admission=config.admission,
            proxy=config.proxy_protocol,
            context=store,
            **({"handshake_timeout": config.tls.handshake_timeout} if config.tls is not None else {}),
            detection=detection,
            factories=factories,
            idle_timeout=config.idle_timeout,
            write_timeout=config.write_timeout,
            write_buffer=config.write_buffer,
        )

    def admin(self) -> Listener:
        """Build the admin listener."""
        service, config = self._service, self._config.admin
        self._check_endpoint("admin.endpoint", config.endpoint)
        pages = admin_pages(service, token=self._token(), metrics=config.metrics)
        factory = Http1Factory(
            pages, clock=service.reactor, timers=service.timers, registry=service.registry, name="admin"
        )
        service.paths["admin"] = ("/", "/healthz", "/readyz", "/metrics", "/connections")
        return Listener(
            "admin",
            config.endpoint,
            factory,
            reactor=service.reactor,
            timers=service.timers,
            registry=service.registry,
            kind="http",
            admission=AdmissionPolicy(max_connections=ADMIN_CONNECTIONS),
        )

    def _token(self) -> str:
        config = self._config.admin
        if not config.token_file:
            return config.token
        try:
            token = Path(config.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise _Problem("admin.token_file", f"cannot read {config.token_file}: {error.strerror}") from error
        if not token:
            raise _Problem("admin.token_file", f"{config.token_file} is empty")
        return token

    def _check_endpoint(self, path: str, endpoint: str) -> None:
        try:
            serverFromString(self._service.reactor, endpoint)
        except Exception as error:  # Twisted's parsers raise what comes: ValueError, TypeError, KeyError, OSError
            raise _Problem(path, f"not an endpoint that Twisted knows: {endpoint!r} ({error})") from error

    def _tls_store(self, name: str, config: ListenerConfig) -> TlsStore | None:
        if config.tls is None:
            return None
        service = self._service
        policy = config.tls
        if config.kind not in {"http", "detect"} and policy.alpn == HTTP_ALPN:
            policy = structs.replace(policy, alpn=())  # the default is HTTP's; another protocol goes by no name
        try:
            store = TlsStore(policy, listener=name, registry=service.registry)
        except StartupError as error:
            raise _Problem(f"listeners.{name}.tls", str(error)) from error
        service.on_reload(store.reload)
        TlsReloader(store, service.reactor).setServiceParent(service)
        return store

    def _detection(self, name: str, config: ListenerConfig) -> tuple[Detection | None, Mapping[str, IProtocolFactory]]:
        """Build the detection of one port, and a factory for each of its targets."""
        detect = config.detect
        if detect is None:
            return None, {}
        factories = {}
        for target in {*detect.protocols.values(), detect.fallback} - {"", "tls"}:
            other = self._config.listeners.get(target)
            factories[target] = self._factory(
                name, other.kind if other is not None else target, other if other is not None else config
            )
        routes = [(target, DETECTORS.named(detector)) for detector, target in detect.protocols.items()]
        return Detection(routes, detect.fallback or None, detect), factories

    def _factory(self, name: str, kind: str, config: ListenerConfig) -> IProtocolFactory:
        """Build what a kind stands for."""
        service = self._service
        if kind == "http":
            return self._http(name, config)
        if kind == "calculator":
            return CalculatorFactory(
                config.calculator, timers=service.timers, registry=service.registry, clock=service.reactor
            )
        if kind == "echo":
            return EchoFactory(timers=service.timers)
        factory: Any = _own_factory(f"listeners.{name}", kind, config.options)
        set_application = getattr(factory, "set_application", None)
        if set_application is not None:
            set_application(service)
        return factory  # type: ignore[no-any-return]  # _own_factory has asked it

    def _http(self, name: str, config: ListenerConfig) -> Http1Factory:
        """Put the request plane of one listener together; the order of the filters is written here and only here."""
        service = self._service
        echo = websocket_responder(
            EchoService(),
            config.websocket,
            clock=service.reactor,
            timers=service.timers,
            registry=service.registry,
            name=name,
        )
        # first the name, so that whatever the others log or answer carries it
        filters = [request_id(trusted=config.http.trust_request_id)]
        if config.http.access_log:
            filters.append(access_log())
        # outside the deadline, so that a 504 is counted as one
        filters.append(request_metrics(service.registry, name))
        if config.http.deadline:
            filters.append(deadline(config.http.deadline, timers=service.timers))
        router = welcome_router(echo)
        service.paths[name] = [path for _, path, _ in router.routes()]
        responder = stack(router, *filters)
        return Http1Factory(
            responder,
            config.http,
            clock=service.reactor,
            timers=service.timers,
            registry=service.registry,
            name=name,
        )


class _Problem(Exception):  # noqa: N818 - collected, and raised together as a ConfigError
    """Something is wrong at ``path``."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path


def _own_factory(path: str, kind: str, options: Mapping[str, Any]) -> IProtocolFactory:
    """Import and call ``package.module:Factory`` with its options."""
    module_name, _, attribute = kind.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the module does when it is imported
        raise _Problem(f"{path}.kind", f"cannot import {kind!r}: {type(error).__name__}: {error}") from error
    try:
        made = found(**options)
    except Exception as error:  # whatever the factory makes of its options
        given = ", ".join(options) or "no options"
        raise _Problem(f"{path}.options", f"{kind} refused {given}: {type(error).__name__}: {error}") from error
    if not IProtocolFactory.providedBy(made):
        raise _Problem(f"{path}.kind", f"{kind} made a {type(made).__name__}, which is no IProtocolFactory")
    return made
