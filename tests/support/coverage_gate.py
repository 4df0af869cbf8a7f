"""Holds each package to its branch coverage: everything of what is pure, nine tenths of what does I/O."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

PURE = (
    "netapp/config",
    "netapp/http",
    "netapp/listeners/access.py",
    "netapp/listeners/admission.py",
    "netapp/listeners/detect.py",
    "netapp/listeners/proxyproto",
    "netapp/telemetry",
    "netapp/units.py",
)
SHELL_MARK = 90.0


def package_of(path):
    """Name what a file is counted with: a pure part by itself, else its package, else the file."""
    for pure in PURE:
        if path == pure or path.startswith(pure + "/"):
            return pure
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else path


def shortfalls(report):
    """Yield a sentence for every part that is below its mark."""
    totals = defaultdict(lambda: [0, 0])
    missing = defaultdict(list)
    for path, file in report["files"].items():
        summary = file["summary"]
        covered = summary["covered_lines"] + summary.get("covered_branches", 0)
        whole = summary["num_statements"] + summary.get("num_branches", 0)
        totals[package_of(path)][0] += covered
        totals[package_of(path)][1] += whole
        if covered < whole:
            missing[package_of(path)].append(f"{path} {file['missing_lines']} {file.get('missing_branches', [])}")
    for part, (covered, whole) in sorted(totals.items()):
        mark = 100.0 if part in PURE else SHELL_MARK
        if whole and 100.0 * covered / whole < mark:
            places = "\n    ".join(missing[part])
            yield f"{part}: {100.0 * covered / whole:.2f} % of lines and branches, expected {mark:g} %\n    {places}"


class CoverageGate:
    """Outermost around the run, so that pytest-cov has written its report when it looks."""

    def __init__(self, report):
        self._report = Path(report)
        self._told = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session):
        result = yield
        self._told = list(shortfalls(json.loads(self._report.read_text())))
        session.testsfailed += bool(self._told)
        return result

    def pytest_terminal_summary(self, terminalreporter):
        if self._told:
            terminalreporter.section("coverage below its mark", red=True)
            for told in self._told:
                terminalreporter.line(told)
