"""What belongs to the process and not to a service: signals, the clock, descriptors."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

_log = Logger("netapp.process")


def use_monotonic_clock(reactor: Any) -> bool:
    """Let the reactor's timers run on the monotonic clock; False when it is too late for that.

    Twisted's reactors measure time by the wall clock: a step of it, by NTP or by hand, fires every timer early or
    holds them all back. Nothing may be scheduled yet, because the two clocks count from different beginnings.
    """
    if reactor.getDelayedCalls():
        return reactor.seconds is time.monotonic
    reactor.seconds = time.monotonic
    return True


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft limit of open files towards the hard one, and return it; say so when ``wanted`` is beyond it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft != resource.RLIM_INFINITY and wanted > soft:
        _log.info(
            "the listeners admit {wanted} connections, but the process may open only {soft} files (RLIMIT_NOFILE)",
            wanted=wanted,
            soft=soft,
        )
    return soft


def find_modules_here() -> None:
    """Let factories be named that are modules of the current folder; last, so that they can stand for no other."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def handle_signals(
    reactor: Any, stop: Callable[[], None], end_now: Callable[[], None], reload: Callable[[], None]
) -> None:
    """SIGTERM and SIGINT stop in order, and at once when they come a second time; SIGHUP reloads.

    Installed when the reactor runs, because it installs its own at its start, and those end without a drain.
    """
    told = False

    def on_stop(number: int, frame: object) -> None:
        nonlocal told
        del frame
        action, told = (end_now if told else stop), True
        _log.info("received {signal}", signal=signal.Signals(number).name)
        reactor.callFromThread(action)

    def on_reload(number: int, frame: object) -> None:
        del number, frame
        reactor.callFromThread(reload)

    def install() -> None:
        signal.signal(signal.SIGTERM, on_stop)
        signal.signal(signal.SIGINT, on_stop)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, on_reload)

    reactor.callWhenRunning(install)
