"""What no single table can know: where tables contradict each other, or one of them would silently do nothing.

The checks look at whatever could be built, so that a fault elsewhere does not hide theirs.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from netapp.config.convert import as_table
from netapp.config.endpoint import EndpointText, parse_endpoint
from netapp.config.problem import Problem, show_path, show_value, suggest
from netapp.config.schema import KINDS, AdminConfig
from netapp.listeners.detect import DETECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from netapp.config.problem import Path

_FACTORY: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_TLS: Final = "tls"
_USED: Final = {
    "calculator": {"calculator"},
    "detect": {"detect", "http", "websocket", "calculator"},
    "echo": set[str](),
    "http": {"http", "websocket"},
}
"""The tables that only some kinds of listener read, and which; a factory of the user's own has its options."""
_SPECIAL: Final = {"options"}.union(*_USED.values())


def is_factory(kind: str) -> bool:
    """Say whether a kind has the form ``package.module:Factory``."""
    return _FACTORY.fullmatch(kind) is not None


def cross_check(tree: Mapping[str, Any], built: Mapping[Path, Any]) -> Iterator[Problem]:
    """Find what is wrong between tables: ``tree`` is what was given, ``built`` what could be built of it, by path."""
    listeners = {name: as_table(given) for name, given in as_table(tree.get("listeners")).items()}
    for name, given in listeners.items():
        yield from _check_kind(name, given, built)
        yield from _check_tls(name, built)
        yield from _check_detect(name, listeners, built)
    admin = _admin_endpoint(as_table(tree.get("admin")), built)
    yield from _check_token(as_table(tree.get("admin")), admin)
    yield from _check_overlaps(listeners, admin, built)


def _check_kind(name: str, given: Mapping[str, Any], built: Mapping[Path, Any]) -> Iterator[Problem]:
    kind = built.get(("listeners", name, "kind"))
    if kind is None:
        return
    if kind not in _USED and not is_factory(kind):
        yield Problem(("listeners", name, "kind"), _unknown_kind(kind, KINDS))
        return
    for table in sorted(_SPECIAL - _USED.get(kind, {"options"})):
        if given.get(table) is not None:
            yield Problem(("listeners", name, table), f"not used by a listener of the kind {kind!r}")
    if kind == "detect" and given.get("detect") is None:
        yield Problem(("listeners", name, "detect"), "missing, expected a table, because the kind is 'detect'")


def _unknown_kind(kind: str, known: Any) -> str:
    near = suggest(kind, known)
    return f"expected one of {', '.join(known)}, or 'package.module:Factory', found {show_value(kind)}" + (
        f"; {near}" if near.startswith("did") else ""
    )


def _check_tls(name: str, built: Mapping[Path, Any]) -> Iterator[Problem]:
    endpoint = _endpoint(("listeners", name, "endpoint"), built)
    if endpoint is not None and endpoint.kind == "ssl" and built.get(("listeners", name, "tls")) is not None:
        yield Problem(("listeners", name, "tls"), "the endpoint is 'ssl:' already: expected 'tcp:' with this table")


def _check_detect(
    name: str, listeners: Mapping[str, Mapping[str, Any]], built: Mapping[Path, Any]
) -> Iterator[Problem]:
    path: Path = ("listeners", name, "detect")
    targets = {other for other in listeners if built.get(("listeners", other, "kind")) != "detect"} | {*KINDS} - {
        "detect"
    }
    protocols = built.get((*path, "protocols")) or {}
    # a module of the user's own may register a detector when it is imported, which is not done here
    named = [given.get("kind") for given in listeners.values()] + [*protocols.values()]
    has_plugins = any(is_factory(str(kind)) for kind in named)
    for route, target in protocols.items():
        if route not in DETECTORS and not has_plugins:
            yield Problem((*path, "protocols", route), f"unknown detector, {suggest(route, DETECTORS)}")
        if target == _TLS and listeners[name].get("tls") is None:
            yield Problem((*path, "protocols", route), "leads to 'tls', but this listener has no 'tls' table")
        yield from _check_target((*path, "protocols", route), target, {*targets, _TLS})
    yield from _check_target((*path, "fallback"), built.get((*path, "fallback")) or "", {*targets, ""})


def _check_target(path: Path, target: str, targets: set[str]) -> Iterator[Problem]:
    if target not in targets and not is_factory(target):
        hint = suggest(target, targets - {""})
        yield Problem(path, f"expected the name of a listener or a kind, found {show_value(target)}; {hint}")


def _check_token(given: Mapping[str, Any], endpoint: EndpointText | None) -> Iterator[Problem]:
    has_token = given.get("token") or given.get("token_file")
    if endpoint is not None and not endpoint.is_private and not has_token:
        reason = f"because {str(endpoint)!r} may be reached from elsewhere"
        yield Problem(("admin", "token"), f"missing, expected a token or a token_file, {reason}")


def _admin_endpoint(given: Mapping[str, Any], built: Mapping[Path, Any]) -> EndpointText | None:
    if not built.get(("admin", "enabled"), True):
        return None
    return _endpoint(("admin", "endpoint"), built) if "endpoint" in given else parse_endpoint(AdminConfig().endpoint)


def _check_overlaps(
    listeners: Mapping[str, Any], admin: EndpointText | None, built: Mapping[Path, Any]
) -> Iterator[Problem]:
    paths: list[Path] = [("listeners", name, "endpoint") for name in sorted(listeners)]
    found = {path: _endpoint(path, built) for path in paths}
    found["admin", "endpoint"] = admin
    for (path, endpoint), (other_path, other) in combinations(found.items(), 2):
        if endpoint is not None and other is not None and endpoint.overlaps(other):
            yield Problem(other_path, f"cannot listen at the same place as {show_path(path)}, {str(endpoint)!r}")


def _endpoint(path: Path, built: Mapping[Path, Any]) -> EndpointText | None:
    text = built.get(path)
    return None if text is None else parse_endpoint(text)
