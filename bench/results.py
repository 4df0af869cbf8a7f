"""Samples, and what is made of them: medians, spreads, ratios to a baseline, and judgement by the marks."""

from __future__ import annotations

from statistics import median

from msgspec import Struct, field


class Sample(Struct, frozen=True):
    """One measurement of one server."""

    figures: dict[str, float]
    server: str
    load: str


class Series(Struct):
    """All that was measured of one server, round by round; None stands for a round that failed."""

    subject: str
    about: str
    samples: list[Sample | None] = field(default_factory=list)
    missing: str | None = None
    failures: list[str] = field(default_factory=list)
    retaken: int = 0

    def values(self, figure: str) -> list[float]:
        """Return one figure over the rounds that succeeded."""
        return [sample.figures[figure] for sample in self.samples if sample is not None and figure in sample.figures]


class Column(Struct, frozen=True):
    """A figure of the table: which, under what title, in what format."""

    figure: str
    title: str
    form: str


class Mark(Struct, frozen=True, kw_only=True):
    """What netapp ought to reach: a figure, or its ratio to a peer's, at least or at most so much."""

    figure: str
    words: str
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def met_by(self, value: float) -> bool:
        """Say whether a value is on the right side of the mark."""
        enough = self.at_least is None or value >= self.at_least
        return enough and (self.at_most is None or value <= self.at_most)


class Outcome(Struct):
    """One workload's result."""

    workload: str
    about: str
    figure: str
    baseline: str
    columns: tuple[Column, ...]
    marks: tuple[Mark, ...]
    series: list[Series]

    def find(self, subject: str) -> Series | None:
        """Return a server's series, or None when it took no part."""
        return next((series for series in self.series if series.subject == subject), None)

    def ratios(self, subject: str, against: str, figure: str) -> list[float]:
        """Pair the rounds of two servers: a ratio within one round is not moved by what drifts over many."""
        mine, other = self.find(subject), self.find(against)
        if mine is None or other is None:
            return []
        return [
            one.figures[figure] / two.figures[figure]
            for one, two in zip(mine.samples, other.samples, strict=False)
            if one is not None and two is not None and two.figures.get(figure)
        ]

    def judge(self, mark: Mark, subject: str = "netapp") -> tuple[float, bool] | None:
        """Return the median that a mark speaks of and whether it is met; None when it was not measured."""
        series = self.find(subject)
        if series is None:
            return None
        values = self.ratios(subject, mark.against, mark.figure) if mark.against else series.values(mark.figure)
        return (median(values), mark.met_by(median(values))) if values else None
