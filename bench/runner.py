"""Takes the samples: the servers in turn, round after round, each started for its sample and ended after it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.marks import MARKS
from bench.processes import QUIET, MeasurementError, await_quiet, running
from bench.results import Outcome, Sample, Series

if TYPE_CHECKING:
    from bench.peers import Subject
    from bench.workloads import Setting, Workload


def note(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def run(workload: Workload, setting: Setting, rounds: int, wanted: set[str]) -> Outcome:
    """Measure every wanted server `rounds` times in the order A B C A B C; a failure never ends the run."""
    subjects = [subject for subject in workload.subjects(setting) if not wanted or subject.name in wanted]
    series = {subject.name: Series(subject.name, subject.about, missing=subject.missing) for subject in subjects}
    for number in range(1, rounds + 1):
        for subject in subjects:
            if subject.missing is None:
                _take(workload, setting, subject, series[subject.name])
                note(f"{workload.name} {number}/{rounds} {_last(workload, series[subject.name])}")
    return Outcome(
        workload=workload.name,
        about=workload.about,
        figure=workload.figure,
        baseline=workload.baseline,
        columns=workload.columns,
        marks=MARKS.get(workload.name, ()),
        series=list(series.values()),
    )


def _last(workload: Workload, series: Series) -> str:
    sample = series.samples[-1]
    if sample is None:
        return f"{series.subject}: FAILED: {series.failures[-1]}"
    return f"{series.subject}: {sample.figures[workload.figure]:,.0f}"


def _take(workload: Workload, setting: Setting, subject: Subject, series: Series) -> None:
    try:
        series.samples.append(_undisturbed(workload, setting, subject, series))
    except (MeasurementError, OSError, subprocess.SubprocessError) as problem:
        series.samples.append(None)
        series.failures.append(str(problem))


def _undisturbed(workload: Workload, setting: Setting, subject: Subject, series: Series) -> Sample:
    """Take a sample again while other work disturbs it, whatever its figures; the last one allowed is kept."""
    for _ in range(setting.retries):
        await_quiet(setting.cores, setting.patience)
        sample = measure_once(workload, setting, subject)
        if sample.figures.get("others_cpu", 0.0) <= QUIET:
            return sample
        series.retaken += 1
    await_quiet(setting.cores, setting.patience)
    return measure_once(workload, setting, subject)


def measure_once(workload: Workload, setting: Setting, subject: Subject) -> Sample:
    """Start one server in a scratch folder, take one sample and end it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        launch = subject.launch(scratch)
        with running(launch.command, core=setting.cores.server, port=launch.port, scratch=scratch) as server:
            return workload.measure(setting, server, subject)
