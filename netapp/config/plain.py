"""The short names of the environment that operators of such servers know, and the keys they set."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from netapp.config.convert import INVALID, Converter, Text
from netapp.config.endpoint import check_port, parse_endpoint
from netapp.config.problem import show_value, suggest
from netapp.config.schema import AdminConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netapp.config.endpoint import EndpointText
    from netapp.config.overlay import Overlay
    from netapp.config.problem import Path

FILE_NAME: Final = "NETAPP_CONFIG"
"""The configuration file, where the command line names none."""

_PREFIX: Final = "NETAPP_"
_MISSPELT: Final = 0.9
"""Likeness from which an unknown name is taken for a slip of the keyboard. It is high, because others set such names
too: Kubernetes adds ``NETAPP_PORT_80_TCP`` and the like where there is a service called netapp."""


class PlainName(Struct, frozen=True):
    """One name and its keys.

    In a key ``*`` is every listener, ``<http>`` every listener of that kind, and ``web,echo`` those of them that there
    are. ``part`` says what is set: the value, one part of the endpoint that it is, or whether the table is there.
    """

    name: str
    keys: tuple[str, ...]
    part: Literal["value", "host", "port", "switch"] = "value"


PLAIN_NAMES: Final = (
    PlainName("NETAPP_HOST", ("listeners.web,calculator,echo.endpoint",), "host"),
    PlainName("NETAPP_PORT", ("listeners.web.endpoint",), "port"),
    PlainName("NETAPP_MAX_CONNECTIONS", ("listeners.*.admission.max_connections",)),
    PlainName("NETAPP_BUFFER_SIZE", ("listeners.*.write_buffer",)),
    PlainName("NETAPP_READ_TIMEOUT", ("listeners.*.idle_timeout", "listeners.<http>.http.body_timeout")),
    PlainName("NETAPP_WRITE_TIMEOUT", ("listeners.*.write_timeout",)),
    PlainName("NETAPP_TLS_CERT_PATH", ("listeners.web.tls.certificate",)),
    PlainName("NETAPP_TLS_KEY_PATH", ("listeners.web.tls.key",)),
    PlainName("NETAPP_ENABLE_TLS", ("listeners.web.tls",), "switch"),
    PlainName("NETAPP_ENABLE_METRICS", ("admin.metrics",)),
    PlainName("NETAPP_METRICS_PORT", ("admin.endpoint",), "port"),
    PlainName("NETAPP_LOG_LEVEL", ("logging.level",)),
)
"""In the order in which they are applied: ``NETAPP_ENABLE_TLS=false`` undoes the paths before it. A path by itself
switches TLS on, so that whoever names a certificate never serves without it."""

_DEFAULTS: Final[dict[Path, str]] = {("admin", "endpoint"): AdminConfig().endpoint}
"""Endpoints that a name changes in part although neither a file nor the default listeners have written them."""


def lay_plain(overlay: Overlay, environ: Mapping[str, str], listeners: Mapping[str, Any]) -> None:
    """Lay the plain names over the settings; ``listeners`` are the names and kinds of those there will be.

    A name that is set to nothing counts as not set, which is how container tools pass on what nobody gave.
    """
    for plain in PLAIN_NAMES:
        value = environ.get(plain.name, "").strip()
        paths = [path for key in plain.keys for path in _expand(key, listeners)] if value else []
        if paths:
            _LAY[plain.part](overlay, plain, paths, value)
        elif value:
            _reject_absent(overlay, plain)
    _reject_misspelt(overlay, environ)


def _expand(key: str, listeners: Mapping[str, Any]) -> list[Path]:
    head, which, *rest = key.split(".")
    if head != "listeners":
        return [(head, which, *rest)]
    return [(head, name, *rest) for name, kind in listeners.items() if _is_meant(which, name, kind)]


def _is_meant(which: str, name: str, kind: Any) -> bool:
    return which in {"*", f"<{kind}>"} or name in which.split(",")


def _lay_value(overlay: Overlay, plain: PlainName, paths: list[Path], value: str) -> None:
    for path in paths:
        overlay.put(path, Text(value), plain.name)


def _lay_switch(overlay: Overlay, plain: PlainName, paths: list[Path], value: str) -> None:
    is_on = Converter().convert(bool, Text(value))
    for path in paths:
        if is_on is INVALID:
            overlay.reject(path, f"expected true or false, found {show_value(value)}", plain.name)
        elif not is_on:
            overlay.put(path, None, plain.name)
        elif not isinstance(overlay.get(path), dict):
            overlay.put(path, {}, plain.name)


def _lay_host(overlay: Overlay, plain: PlainName, paths: list[Path], value: str) -> None:
    _lay_part(overlay, plain, paths, lambda endpoint: endpoint.with_host(value))


def _lay_port(overlay: Overlay, plain: PlainName, paths: list[Path], value: str) -> None:
    try:
        port = check_port(value)
    except ValueError as error:
        # Kubernetes' own use of the name is the likeliest cause, and the hardest to find.
        hint = "; Kubernetes sets it for a service called netapp: see enableServiceLinks" if "://" in value else ""
        for path in paths:
            overlay.reject(path, f"{error}, found {show_value(value)}{hint}", plain.name)
    else:
        _lay_part(overlay, plain, paths, lambda endpoint: endpoint.with_port(port))


def _lay_part(
    overlay: Overlay, plain: PlainName, paths: list[Path], change: Callable[[EndpointText], EndpointText]
) -> None:
    """Change one part of each endpoint that has it. Where none has, that is a problem: the name would do nothing."""
    refusals = [_change_endpoint(overlay, plain, path, change) for path in paths]
    if all(refusals):
        overlay.reject(paths[0], refusals[0], plain.name)


def _change_endpoint(
    overlay: Overlay, plain: PlainName, path: Path, change: Callable[[EndpointText], EndpointText]
) -> str:
    """Change an endpoint; say why it cannot be done. What is no endpoint at all is told by its own check."""
    text = overlay.get(path) or _DEFAULTS.get(path)
    try:
        endpoint = parse_endpoint(text) if isinstance(text, str) else None
    except ValueError:
        endpoint = None
    if endpoint is None:
        return ""
    try:
        overlay.put(path, str(change(endpoint)), plain.name)
    except ValueError as error:
        return str(error)
    return ""


def _reject_absent(overlay: Overlay, plain: PlainName) -> None:
    which = plain.keys[0].split(".")[1]
    if which != "*":
        overlay.reject(("listeners",), f"expected a listener named {which.replace(',', ' or ')}", plain.name)


def _reject_misspelt(overlay: Overlay, environ: Mapping[str, str]) -> None:
    known = [FILE_NAME, *(plain.name for plain in PLAIN_NAMES)]
    for name in environ:
        if name.startswith(_PREFIX) and name not in known and get_close_matches(name, known, 1, _MISSPELT):
            overlay.reject((), f"unknown name {name}, {suggest(name, known)}", "the environment")


_LAY: Final = {"value": _lay_value, "host": _lay_host, "port": _lay_port, "switch": _lay_switch}
