"""Is this process fit for work? Checks with thresholds, and readiness, kept apart.

*Health* says how the process fares: healthy, degraded (working, but somebody should look) or unhealthy (better
restarted). *Readiness* says whether it wants traffic now, and gives the reasons where it does not: a process that
starts or drains is perfectly healthy. A supervisor restarts on the first, a load balancer routes by the second.

Checks run when a report is asked for, one after the other, in the caller's thread, and so must be quick: they read
a number that something else keeps. Time is an argument, as everywhere in this package; what the process costs is
read through :class:`Vitals`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from inspect import iscoroutine
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct, to_builtins

from netapp.telemetry import process
from netapp.units import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

Fraction = Annotated[float, Meta(ge=0, le=1, description="a fraction between 0 and 1")]


class Status(StrEnum):
    """What a check found. The values appear in JSON, and so never change."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


_SEVERITY = {Status.HEALTHY: 0, Status.DEGRADED: 1, Status.UNHEALTHY: 2}


class HealthPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds of the built-in checks. A value at or above a threshold has that status; 0 switches one off."""

    loop_lag_degraded: Duration = 0.1
    """Seconds that the event loop is late. Default: a block that is also logged."""
    loop_lag_unhealthy: Duration = 1.0
    """Seconds that the event loop is late. Default: a tenth of the shortest default deadline (10 s)."""
    rss_degraded: Size = 0
    """Resident memory in bytes. Off by default: only the operator knows what the machine has to give."""
    rss_unhealthy: Size = 0
    """Resident memory in bytes; below the limit of the container, so that a restart comes before the kill."""
    connections_degraded: Fraction = 0.8
    """Open connections as a fraction of their limit. Default: the usual first alarm, while a fifth is left."""
    connections_unhealthy: Fraction = 0.95
    """Open connections as a fraction of their limit. Default: refusals are about to begin."""
    fds_degraded: Fraction = 0.8
    """Open descriptors as a fraction of RLIMIT_NOFILE. Default: as for connections."""
    fds_unhealthy: Fraction = 0.95
    """Open descriptors as a fraction of RLIMIT_NOFILE. Default: accepting (EMFILE) and log files are about to fail."""

    def __post_init__(self) -> None:
        for name in ("loop_lag", "rss", "connections", "fds"):
            degraded, unhealthy = getattr(self, f"{name}_degraded"), getattr(self, f"{name}_unhealthy")
            if degraded and unhealthy and degraded > unhealthy:
                raise ValueError(f"{name}_degraded ({degraded:g}) is above {name}_unhealthy ({unhealthy:g})")


class CheckResult(Struct, frozen=True):
    """What one check found: a status, a sentence for people, and the number it was decided by, if there is one."""

    status: Status
    detail: str = ""
    value: float | None = None


Check = Callable[[], CheckResult | bool]
"""A check takes nothing and answers at once; True is healthy, False unhealthy."""


class CheckReport(Struct, frozen=True):
    """One check's part of a report."""

    status: Status
    detail: str
    value: float | None
    duration_seconds: float


class HealthReport(Struct, frozen=True, kw_only=True):
    """The whole answer. A number that could not be read is None."""

    status: Status
    """The worst of all checks."""
    decided_by: tuple[str, ...]
    """The checks that have this status, where it is not healthy."""
    timestamp: str
    """RFC 3339, UTC, milliseconds."""
    version: str
    uptime_seconds: float | None
    open_connections: float | None
    rss_bytes: float | None
    event_loop_lag_seconds: float | None
    response_time_seconds: float
    """How long this report took to make: all checks together."""
    checks: dict[str, CheckReport]

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, as a JSON encoder takes them."""
        built: dict[str, Any] = to_builtins(self)
        return built


def _nothing() -> int:
    return 0


class Vitals(Struct, frozen=True, kw_only=True):
    """Where the built-in checks read their numbers; each is a function without arguments."""

    event_loop_lag: Callable[[], float] = _nothing
    """Seconds, as :meth:`netapp.monitor.loop.LoopMonitor.lag` gives them."""
    connections: Callable[[], int] = _nothing
    """How many connections are open, over all listeners."""
    connection_limit: Callable[[], int] = _nothing
    """How many may be open; 0 for no limit."""
    rss: Callable[[], int] = process.rss_bytes
    open_fds: Callable[[], int] = process.open_fds
    fd_limit: Callable[[], int] = process.fd_limit
    uptime: Callable[[], float] = process.uptime_seconds


class Health:
    """The checks of one application. ``timer`` measures how long they take, in seconds."""

    def __init__(
        self,
        policy: HealthPolicy,
        vitals: Vitals,
        version: str = "",
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._vitals = vitals
        self._version = version
        self._timer = timer
        self._checks: dict[str, Check] = _built_in(policy, vitals)

    def register(self, name: str, check: Check) -> None:
        """Add a check of your own; ValueError where the name is taken."""
        if name in self._checks:
            raise ValueError(f"there is already a health check named {name!r}")
        self._checks[name] = check

    def unregister(self, name: str) -> None:
        """Remove a check, be it built in; KeyError where there is none of that name."""
        del self._checks[name]

    def report(self, now: float) -> HealthReport:
        """Run every check. ``now`` is the wall clock's time, in seconds since the epoch.

        Raises nothing for a check that fails: that check is unhealthy.
        """
        started = self._timer()
        checks = {name: self._run(check) for name, check in list(self._checks.items())}
        status = max((check.status for check in checks.values()), key=_SEVERITY.__getitem__, default=Status.HEALTHY)
        return HealthReport(
            status=status,
            decided_by=tuple(name for name, check in checks.items() if check.status == status != Status.HEALTHY),
            timestamp=rfc3339(now),
            version=self._version,
            uptime_seconds=_read(self._vitals.uptime),
            open_connections=_read(self._vitals.connections),
            rss_bytes=_read(self._vitals.rss),
            event_loop_lag_seconds=_read(self._vitals.event_loop_lag),
            response_time_seconds=self._timer() - started,
            checks=checks,
        )

    def _run(self, check: Check) -> CheckReport:
        started = self._timer()
        try:
            result = _understood(check())
        except Exception as problem:  # noqa: BLE001 - a check is anybody's code, and its failure is an answer
            result = CheckResult(Status.UNHEALTHY, f"{type(problem).__name__}: {problem}")
        return CheckReport(result.status, result.detail, result.value, self._timer() - started)


class Readiness:
    """Whether traffic is wanted: it is as long as nobody gives a reason against it."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    @property
    def is_ready(self) -> bool:
        """Whether there is no reason against it."""
        return not self._reasons

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why not: name and text of each reason, the oldest first. A live, read-only view."""
        return MappingProxyType(self._reasons)

    def not_ready(self, name: str, text: str) -> None:
        """Give a reason, or reword the one of this name."""
        self._reasons[name] = text

    def ready(self, name: str) -> None:
        """Withdraw the reason of this name; nothing happens where there is none."""
        self._reasons.pop(name, None)

    def as_dict(self) -> dict[str, Any]:
        """Return what a JSON encoder takes."""
        return {"ready": self.is_ready, "reasons": dict(self._reasons)}


def rfc3339(now: float) -> str:
    """Write seconds since the epoch as UTC with milliseconds, in the form of RFC 3339 §5.6."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _read(vital: Callable[[], float]) -> float | None:
    try:
        return vital()
    except Exception:  # noqa: BLE001 - the check that reads the same number reports what is wrong with it
        return None


def _understood(answer: object) -> CheckResult:
    if isinstance(answer, CheckResult):
        Status(answer.status)
        return answer
    if isinstance(answer, bool):
        return CheckResult(Status.HEALTHY if answer else Status.UNHEALTHY)
    if iscoroutine(answer):
        answer.close()
    raise TypeError(f"the check answered with {type(answer).__name__}, not with a CheckResult or a bool")


def _built_in(policy: HealthPolicy, vitals: Vitals) -> dict[str, Check]:
    def event_loop() -> CheckResult:
        lag = vitals.event_loop_lag()
        status = _judge(lag, policy.loop_lag_degraded, policy.loop_lag_unhealthy)
        return CheckResult(status, f"the event loop is {lag:.3f} s late", lag)

    def memory() -> CheckResult:
        rss = vitals.rss()
        status = _judge(rss, policy.rss_degraded, policy.rss_unhealthy)
        return CheckResult(status, f"{rss / 2**20:,.0f} MiB are resident", rss)

    def connections() -> CheckResult:
        count, limit = vitals.connections(), vitals.connection_limit()
        return _share(count, limit, policy.connections_degraded, policy.connections_unhealthy, "connections")

    def file_descriptors() -> CheckResult:
        count, limit = vitals.open_fds(), vitals.fd_limit()
        return _share(count, limit, policy.fds_degraded, policy.fds_unhealthy, "file descriptors")

    return {
        "event_loop": event_loop,
        "memory": memory,
        "connections": connections,
        "file_descriptors": file_descriptors,
    }


def _share(count: int, limit: int, degraded: float, unhealthy: float, what: str) -> CheckResult:
    if not limit:
        return CheckResult(Status.HEALTHY, f"{count:,} {what} are open, without a limit", count)
    status = _judge(count / limit, degraded, unhealthy)
    return CheckResult(status, f"{count:,} of at most {limit:,} {what} are open", count)


def _judge(value: float, degraded: float, unhealthy: float) -> Status:
    if unhealthy and value >= unhealthy:
        return Status.UNHEALTHY
    return Status.DEGRADED if degraded and value >= degraded else Status.HEALTHY
