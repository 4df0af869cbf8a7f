"""The metrics page: our instruments, the process and the interpreter, as Prometheus text or as OpenMetrics.

Nothing is rendered until somebody asks. prometheus_client then does what it is good at, the formats and their
escaping; the instruments themselves stay the plain numbers that hot paths can afford.

One broken instrument must not hide all others at the very moment they are needed. A sample that cannot be read is
left out of the page, counted in ``netapp_metrics_read_errors_total`` and logged the first time.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar, cast

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from twisted.logger import Logger

from netapp.telemetry import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from netapp.telemetry.metrics import AnyFamily, Counter, Family, Gauge, Histogram, Registry

READ_ERRORS = "netapp_metrics_read_errors_total"

_VERSIONS = frozenset({"", "0.0.4", "1.0.0"})
_log = Logger()
_Item = TypeVar("_Item")


def render(registry: Registry, accept: str = "") -> tuple[str, bytes]:
    """Return the content type and the body for a request with this ``Accept`` field.

    OpenMetrics 1.0.0 where the client prefers it, else Prometheus text (1.0.0 where asked for, or 0.0.4). A gauge
    ``x`` beside a counter ``x_total`` rules OpenMetrics out, to which both are the family ``x``.
    """
    errors = registry.counter(READ_ERRORS, "Samples left out of this page because reading them failed.", ["metric"])
    families = _guarded("registry", lambda: registry, errors)
    encode, content_type = choose_encoder("" if _clash(families, errors) else _understood(accept))
    page = CollectorRegistry(auto_describe=False)
    page.register(_Guarded("interpreter", _interpreter(), errors))
    page.register(_Guarded("process", _Process(), errors))
    page.register(_Instruments(families, errors))
    return content_type, encode(page)


def _clash(families: list[AnyFamily], errors: Family[Counter]) -> bool:
    counters = {family.name.removesuffix("_total") for family in families if family.kind == "counter"}
    clashes = [family.name for family in families if family.kind != "counter" and family.name in counters]
    for name in clashes:
        count = errors.child(name)
        if not count.value:
            _log.error("{metric} and {metric}_total cannot both be shown in OpenMetrics; rename one", metric=name)
        count.inc()
    return bool(clashes)


def _understood(accept: str) -> str:
    """Reduce an Accept field to the media ranges that can be served, the preferred first (RFC 9110 §12.5.1).

    choose_encoder takes the first that it knows whatever its weight, and answers with the version it was asked for
    whether or not there is such a version.
    """
    weighed = [(_weight(entry), entry) for entry in accept.split(",")]
    return ",".join(entry for weight, entry in sorted(weighed, key=lambda pair: -pair[0]) if weight > 0)


def _weight(entry: str) -> float:
    given = dict(part.strip().split("=", 1) for part in entry.split(";")[1:] if "=" in part)
    if given.get("version", "") not in _VERSIONS:
        return 0
    try:
        return float(given.get("q", 1))
    except ValueError:
        return 0


class _Instruments(Collector):
    """Our registry as prometheus_client sees it; the count of errors comes last, to have those of this page."""

    def __init__(self, families: list[AnyFamily], errors: Family[Counter]) -> None:
        self._families = families
        self._errors = errors

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if family is not self._errors:
                yield from _guarded(family.name, partial(self._translated, family), self._errors)
        yield _counter(self._errors)

    def _translated(self, family: AnyFamily) -> list[Metric]:
        if family.kind == "counter":
            return [_counter(cast("Family[Counter]", family))]
        if family.kind == "gauge":
            return [self._gauge(cast("Family[Gauge]", family))]
        return [_histogram(cast("Family[Histogram]", family))]

    def _gauge(self, family: Family[Gauge]) -> Metric:
        metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
        for values, gauge in list(family.children.items()):
            for number in _guarded(family.name, partial(_reading, gauge), self._errors):
                metric.add_metric(_printable(values), number)
        return metric


def _reading(gauge: Gauge) -> list[float]:
    return [float(gauge.current())]


def _counter(family: Family[Counter]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for values, counter in list(family.children.items()):
        metric.add_metric(_printable(values), float(counter.value))
    return metric


def _histogram(family: Family[Histogram]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for values, histogram in list(family.children.items()):
        buckets = list(zip(_limits(histogram.bounds), accumulate(histogram.counts), strict=True))
        metric.add_metric(_printable(values), buckets, histogram.sum)
    return metric


@cache
def _limits(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(floatToGoString, bounds), "+Inf")


def _printable(values: tuple[str, ...]) -> list[str]:
    """Label values that UTF-8 can carry: a lone surrogate, which is how a peer's raw byte looks, would end the page."""
    return [value if value.isascii() else value.encode("utf-8", "backslashreplace").decode() for value in values]


class _Process(Collector):
    """The metrics that every Prometheus client library calls ``process_``, with their names and meanings.

    prometheus_client's own collector lists the folder of descriptors at each scrape, which stops the event loop for
    0.1 s when 50,000 are open, and fails where their number is unlimited.
    """

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("process_cpu_seconds", "User and system CPU time in seconds.", process.cpu_seconds())
        yield _sample("process_resident_memory_bytes", "Resident memory in bytes.", process.rss_bytes())
        yield _sample("process_virtual_memory_bytes", "Virtual memory in bytes.", process.virtual_bytes())
        yield _sample("process_start_time_seconds", "Start, in seconds since the epoch.", process.start_time())
        yield _sample("process_open_fds", "Open file descriptors.", process.open_fds())
        yield _sample("process_max_fds", "Limit of open file descriptors.", process.fd_limit() or float("inf"))


def _sample(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value)


@cache
def _interpreter() -> CollectorRegistry:
    """Version and garbage collector of the interpreter."""
    collectors = CollectorRegistry(auto_describe=False)
    PlatformCollector(collectors)
    GCCollector(collectors)
    return collectors


class _Guarded(Collector):
    """Another collector, whose failure leaves the rest of the page intact."""

    def __init__(self, name: str, inner: Collector, errors: Family[Counter]) -> None:
        self._name = name
        self._inner = inner
        self._errors = errors

    def collect(self) -> Iterable[Metric]:
        return _guarded(self._name, self._inner.collect, self._errors)


def _guarded(name: str, read: Callable[[], Iterable[_Item]], errors: Family[Counter]) -> list[_Item]:
    try:
        return list(read())
    except Exception:  # noqa: BLE001 - whatever a reader raises, the rest of the page is wanted
        count = errors.child(name)
        if not count.value:
            _log.failure("the metric {metric} cannot be read; further failures are only counted", metric=name)
        count.inc()
        return []
