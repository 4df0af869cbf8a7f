"""From a file, the environment and the command line to one :class:`Config`, or to every problem there is."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from netapp.config.checks import cross_check
from netapp.config.convert import INVALID, Converter
from netapp.config.overlay import Overlay, lay_nested, lay_sets
from netapp.config.plain import FILE_NAME, lay_plain
from netapp.config.problem import in_order
from netapp.config.schema import DEFAULT_LISTENERS, Config
from netapp.config.source import read_document
from netapp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def load_config(path: str | None, sets: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Read the configuration from all its sources, of which :mod:`netapp.config.overlay` says which one wins.

    ``path`` is the file, else the environment's NETAPP_CONFIG, else there is none; ``sets`` are ``KEY=VALUE`` texts.
    Raises ConfigError with every problem, sorted by path; where the file cannot be parsed, with that one alone.
    """
    name = path or environ.get(FILE_NAME, "")
    tree = {"listeners": DEFAULT_LISTENERS, **(read_document(name) if name else {})}
    # A plain name that is for every listener is for those too that only a later layer adds. So the layers are laid
    # once to see which listeners there will be, and then for good.
    sketch = _lay(tree, sets, environ, {})
    return _build(_lay(tree, sets, environ, sketch.listeners()))


def _lay(
    tree: dict[str, Any], sets: Sequence[str], environ: Mapping[str, str], listeners: Mapping[str, Any]
) -> Overlay:
    overlay = Overlay(deepcopy(tree))
    lay_plain(overlay, environ, listeners)
    lay_nested(overlay, environ)
    lay_sets(overlay, sets)
    return overlay


def parse_config(document: dict[str, Any]) -> Config:
    """Read the configuration from nested dicts, as a file would give them. Raises ConfigError as above."""
    return _build(Overlay({"listeners": DEFAULT_LISTENERS, **document}))


def _build(overlay: Overlay) -> Config:
    converter = Converter()
    config: Any = converter.convert(Config, overlay.tree)
    found = [*converter.problems, *cross_check(overlay.tree, converter.built)]
    problems = overlay.problems + [replace(problem, origin=overlay.origin(problem.path)) for problem in found]
    if problems or config is INVALID:
        raise ConfigError([str(problem) for problem in in_order(problems)])
    result: Config = config
    return result
