"""Which events are written at all: levels by namespace, and Twisted's chatter put in its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.logger import LogLevel, LogLevelFilterPredicate

from netapp.logs.fields import is_legacy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.logger import LogEvent

_NOISE = frozenset({"Starting factory {factory!r}", "Stopping factory {factory!r}"})
_LEGACY_NOISE = re.compile(
    r"[\w.]+( \(TLS\))? starting on (\d+|b?'.*')"
    r"|\((\w+ )?Port .* Closed\)"
    r"|(Starting|Stopping) protocol .*",
    re.DOTALL,
)


def level_named(name: str) -> LogLevel:
    """Return Twisted's level of this name; ``warning`` is ``warn``. ValueError for any other name."""
    known: dict[str, LogLevel] = {level.name: level for level in LogLevel.iterconstants()}
    if name not in known and name != "warning":
        raise ValueError(f"expected a log level ({', '.join(known)}), found {name!r}")
    return known["warn" if name == "warning" else name]


class LevelFilter:
    """The lowest level that is written, by namespace: the longest dotted prefix decides.

    ``levels`` maps namespaces to level names. An event that says neither namespace nor level is written as information
    of the default namespace. ValueError for a level that does not exist.
    """

    def __init__(self, level: str, levels: Mapping[str, str] | None = None) -> None:
        self._predicate = LogLevelFilterPredicate(level_named(level))
        for namespace, name in (levels or {}).items():
            self._predicate.setLogLevelForNamespace(namespace, level_named(name))

    def passes(self, event: LogEvent) -> bool:
        """Whether the event is to be written."""
        lowest = self._predicate.logLevelForNamespace(event.get("log_namespace") or "")
        return bool(event.get("log_level", LogLevel.info) >= lowest)


def demoted(event: LogEvent) -> LogEvent:
    """Lower Twisted's news of factories and ports to debugging; every other event is returned as it came.

    They are information to Twisted, but netapp says at what address which listener serves, in words of its own.
    """
    if event.get("log_level") is LogLevel.info and _is_noise(event):
        return {**event, "log_level": LogLevel.debug}
    return event


def _is_noise(event: LogEvent) -> bool:
    if is_legacy(event):
        return _LEGACY_NOISE.fullmatch(str(event.get("log_text", ""))) is not None
    return event.get("log_format") in _NOISE
