"""Counters, gauges and histograms that cost one addition on the hot path.

A family has a name, a help text and label names; a child is one combination of label values. Children are looked up
once, when a listener or a route is composed, and then held: counting is ``child.value += 1``. Rendering happens at
scrape time, in :mod:`netapp.admin.exposition`, through prometheus_client.

Names follow the Prometheus conventions (base units, ``_total`` for counters, no type in the name):
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Kind = Literal["counter", "gauge", "histogram"]

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; from half a millisecond, below which a scrape has nothing to tell, to the default request deadline."""


class Counter:
    """A number that only grows. Hot paths write ``counter.value += 1``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``, which is never negative."""
        self.value += amount


class Gauge:
    """A number that goes up and down; with ``read`` it is asked for at scrape time instead."""

    __slots__ = ("read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self.read: Callable[[], float] | None = None

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``."""
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        """Take ``amount`` away."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value

    def current(self) -> float:
        """Return the value as of now."""
        return self.value if self.read is None else self.read()


class Histogram:
    """Observations in buckets: ``bounds`` are upper limits, inclusive; the last bucket is +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BUCKETS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """All children of one metric name."""

    __slots__ = ("_make", "children", "help", "kind", "labels", "name")

    def __init__(self, name: str, help_text: str, kind: Kind, labels: Sequence[str], make: Callable[[], Child]) -> None:
        self.name = name
        self.help = help_text
        self.kind: Kind = kind
        self.labels = tuple(labels)
        self.children: dict[tuple[str, ...], Child] = {}
        self._make: Callable[[], Child] = make

    def child(self, *values: str) -> Child:
        """Return the child for these label values, made at its first use; one value for each label name."""
        found = self.children.get(values)
        if found is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, got {values}")
            found = self.children[values] = self._make()
        return found

    def total(self) -> float:
        """Sum over all children; for histograms, of their counts."""
        return sum(
            child.count
            if isinstance(child, Histogram)
            else child.current()
            if isinstance(child, Gauge)
            else child.value
            for child in self.children.values()
        )


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]


class Registry:
    """The metrics of one application. Asking twice for a name gives the same family."""

    def __init__(self) -> None:
        self._families: dict[str, AnyFamily] = {}
        self._refreshers: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[AnyFamily]:
        """Iterate over the families, brought up to date first."""
        for refresh in self._refreshers:
            refresh()
        return iter(list(self._families.values()))

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call ``refresh`` before the families are read: for what is cheaper to count up then than as it happens."""
        self._refreshers.append(refresh)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Family[Counter]:
        """Declare a counter; its name ends in ``_total``."""
        return self._declare(Family(name, help_text, "counter", labels, Counter))

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Family[Gauge]:
        """Declare a gauge."""
        return self._declare(Family(name, help_text, "gauge", labels, Gauge))

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str] = (), bounds: Sequence[float] = LATENCY_BUCKETS
    ) -> Family[Histogram]:
        """Declare a histogram."""
        return self._declare(Family(name, help_text, "histogram", labels, lambda: Histogram(bounds)))

    def _declare(self, family: Family[Child]) -> Family[Child]:
        known = self._families.get(family.name)
        if known is None:
            self._families[family.name] = family
            return family
        if (known.kind, known.labels) != (family.kind, family.labels):
            raise ValueError(f"{family.name} is already declared as a {known.kind} with the labels {known.labels}")
        return known  # type: ignore[return-value]  # kind decides the child's type, and it was compared above
