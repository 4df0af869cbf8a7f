"""The twistd plugin: ``twistd netapp``, its options, and what is done to the process before it serves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import MultiService
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from netapp.app import compose
from netapp.app.process import find_modules_here, handle_signals, raise_descriptor_limit, use_monotonic_clock
from netapp.config import load_config
from netapp.errors import ConfigError, StartupError
from netapp.logs import build_observer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from netapp.app import NetappService
    from netapp.config import Config


class Options(usage.Options):
    """The options of ``twistd netapp``."""

    synopsis = "[options]"
    longdesc = "Serve HTTP, WebSocket and TCP protocols behind hardened listeners."

    def __init__(self) -> None:
        super().__init__()
        self["config"] = None
        self["set"] = []

    def opt_config(self, path: str) -> None:
        """The configuration, in TOML or JSON [default: $NETAPP_CONFIG]."""
        self["config"] = path

    def opt_set(self, setting: str) -> None:
        """KEY=VALUE overrides one setting, such as listeners.web.endpoint=tcp:80; may be repeated."""
        self["set"].append(setting)

    opt_c = opt_config
    opt_s = opt_set


class Root(MultiService):
    """What twistd starts: the application, and how twistd is told that it cannot start.

    ``twistd`` is the options of twistd itself, None outside it; ``observer`` takes the place of twistd's own log.
    """

    def __init__(self, service: NetappService, twistd: Any = None, observer: Any = None) -> None:
        super().__init__()
        self._twistd = twistd
        self._observer = observer
        service.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, which twistd asks for its log observer next."""
        super().setServiceParent(parent)
        if isinstance(parent, Componentized) and self._observer is not None:
            parent.setComponent(ILogObserver, self._observer)

    def privilegedStartService(self) -> None:
        """Bind, or say what could not be bound."""
        try:
            super().privilegedStartService()
        except StartupError as error:
            if self._twistd is None or not self._twistd["nodaemon"]:
                raise  # a daemon's parent prints it, and its status is 1
            if self._twistd["pidfile"]:
                Path(self._twistd["pidfile"]).unlink()
            give_up([str(error)])


def give_up(problems: Iterable[str]) -> NoReturn:
    """End the process with status 1 and the problems on standard error, without a traceback."""
    stderr = sys.__stderr__ or sys.stderr  # twistd has put its log in the place of sys.stderr by now
    stderr.writelines(f"netapp: {problem}\n" for problem in problems)
    raise SystemExit(1)


def makeService(options: Options) -> Root:
    """Read the configuration and put the application together; ends the process when that fails."""
    from twisted.internet import reactor  # noqa: PLC0415 - chosen by now

    use_monotonic_clock(reactor)
    find_modules_here()
    try:
        config = load_config(options["config"], options["set"], os.environ)
        service = compose(config, reactor)
        twistd = options.parent
        told = twistd is not None and (twistd["logfile"] or twistd["syslog"] or twistd["logger"])
        observer = None if told else _observer(config, service, reactor)
    except ConfigError as error:
        give_up(error.problems)
    except StartupError as error:
        give_up([str(error)])
    raise_descriptor_limit(service.connection_limit())
    handle_signals(reactor, reactor.stop, service.end_now, service.reload)
    return Root(service, twistd, observer)


def _observer(config: Config, service: NetappService, reactor: Any) -> Any:
    """Log as the configuration says, and reopen the file on SIGHUP."""
    logging = config.logging
    observer, reopen = build_observer(
        clock=reactor,
        level=logging.level,
        format=logging.format,
        levels=logging.levels,
        file=logging.file,
        flood_limit=logging.flood_limit,
        metrics=service.registry,
    )
    service.on_reload(reopen)
    service.on_stopped(observer.flush)
    return observer
