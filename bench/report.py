"""Tables for a terminal and for docs/benchmarks.md, made of the same rows."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bench.processes import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.results import Column, Mark, Outcome, Series

PER_CPU = "per_cpu_second"
FULL = 0.95  # a generator above this share of its core may be what limited the rate
BUSY = 0.9  # a server below this share of its core was not what limited the rate


def rows(outcome: Outcome) -> list[list[str]]:
    """Return the header and a row a server: medians, the spread and the ratio to the baseline."""
    first, *others = outcome.columns
    ratios = [f"x {outcome.baseline}", *([f"x {outcome.baseline} by CPU"] if _by_cpu(outcome) else [])]
    header = ["server", first.title, "min - max", *ratios, *(column.title for column in others)]
    return [header, *(_row(outcome, series, first, others) for series in outcome.series)]


def _by_cpu(outcome: Outcome) -> bool:
    return any(column.figure == PER_CPU for column in outcome.columns)


def _row(outcome: Outcome, series: Series, first: Column, others: list[Column]) -> list[str]:
    compared = [first.figure, *([PER_CPU] if _by_cpu(outcome) else [])]
    values = series.values(first.figure)
    if not values:
        blank = [""] * (1 + len(compared) + len(others))
        return [series.subject, "missing" if series.missing else "failed", *blank]
    spread = f"{min(values):{first.form}} - {max(values):{first.form}}"
    ratios = [_ratio(outcome.ratios(series.subject, outcome.baseline, figure)) for figure in compared]
    return [series.subject, _median(series, first), spread, *ratios, *(_median(series, column) for column in others)]


def _ratio(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}" if ratios else ""


def _median(series: Series, column: Column) -> str:
    values = series.values(column.figure)
    return f"{median(values):{column.form}}" if values else ""


def remarks(outcome: Outcome) -> Iterator[str]:
    """Say what is missing, what failed, what was disturbed, and how each mark was judged."""
    for series in outcome.series:
        if series.missing:
            yield f"missing: {series.subject}: {series.missing}"
        for failure, times in Counter(series.failures).items():
            yield f"FAILED {times} of {len(series.samples)}: {series.subject}: {failure}"
        if series.retaken:
            yield f"taken again: {series.subject}: {series.retaken} disturbed samples dropped, whatever they showed"
        yield from _doubts(series)
    yield from (_verdict(outcome, mark) for mark in outcome.marks)


def _verdict(outcome: Outcome, mark: Mark) -> str:
    judged = outcome.judge(mark)
    if judged is None:
        return f"mark, not measured: {mark.words}"
    value, met = judged
    form = ".2f" if mark.against or abs(value) < 100 else ",.0f"
    by_cpu = outcome.judge(replace(mark, figure=PER_CPU)) if mark.figure == "rate" else None
    agreed = by_cpu is None or by_cpu[1] == met
    word = ("met" if met else "NOT MET") if agreed else "IN DOUBT"
    verdict = f"mark, {word}: {mark.words}: {value:{form}}"
    return f"{verdict} (by CPU: {by_cpu[0]:{form}})" if by_cpu else verdict


def _doubts(series: Series) -> Iterator[str]:
    others, server, load = (series.values(f"{who}_cpu") for who in ("others", "server", "load"))
    if others and max(others) > QUIET:
        yield f"disturbed: {series.subject}: other work took up to {max(others):.2f} of the cores in use"
    if server and min(server) < BUSY:
        yield f"not saturated: {series.subject}: the server had as little as {min(server):.2f} of its core"
    if load and max(load) > FULL:
        yield f"generator at its limit: {series.subject}: up to {max(load):.2f} of its core; the server may do more"


def plain(outcome: Outcome) -> str:
    """Compose an aligned table with its remarks."""
    table = rows(outcome)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    return "\n".join(["", f"{outcome.workload}: {outcome.about}", *lines, *remarks(outcome)])


def markdown(outcomes: list[Outcome], machine: dict[str, str], settings: dict[str, int]) -> str:
    """Compose docs/benchmarks.md whole."""
    parts = [
        "# Benchmarks",
        "Written by `python -m bench --report`; `bench/README.md` says how to read it and how to repeat it.",
        "Medians over the rounds; the ratio is the median of the ratios within a round.",
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        "\n".join(f"- {name}: {value}" for name, value in settings.items()),
        *(_section(outcome) for outcome in outcomes),
    ]
    return "\n\n".join(parts) + "\n"


def _section(outcome: Outcome) -> str:
    header, *body = rows(outcome)
    ruler = [":---", *("---:" for _ in header[1:])]
    table = "\n".join("| " + " | ".join(row) + " |" for row in (header, ruler, *body))
    who = "\n".join(f"- {series.subject}: {series.about}" for series in outcome.series)
    parts = [f"## {outcome.workload}", f"{outcome.about}.", table, _list(remarks(outcome)), who, _commands(outcome)]
    return "\n\n".join(part for part in parts if part)


def _list(lines: Iterator[str]) -> str:
    return "\n".join("- " + line.replace("\n", "; ") for line in lines)


def _commands(outcome: Outcome) -> str:
    """List the commands of each server's last sample."""
    lines = []
    for series in outcome.series:
        last = next((sample for sample in reversed(series.samples) if sample is not None), None)
        if last is not None:
            lines += [f"# {series.subject}", last.server, last.load]
    return "\n".join(["```sh", *lines, "```"]) if lines else ""
