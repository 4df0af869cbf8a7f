"""The command line: ``python -m bench [WORKLOAD …]``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from bench import machine, peers, profiling, report, runner, workloads
from bench.workloads import Setting

if TYPE_CHECKING:
    from bench.results import Outcome
    from bench.workloads import Workload

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
REPORT = ROOT / "docs" / "benchmarks.md"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("workload", nargs="*", help=f"all of {', '.join(names())}; a prefix such as tcp-echo will do")
    parser.add_argument("--seconds", type=int, default=5, help="of load a sample (5)")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each server, taken in turns (3)")
    parser.add_argument("--connections", type=int, default=64, help="under load at once (64)")
    parser.add_argument("--idle-connections", type=int, default=10_000, help="held by the idle workload (10,000)")
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for a quiet moment, a sample (20)")
    parser.add_argument("--retries", type=int, default=2, help="times to take a disturbed sample again (2)")
    parser.add_argument("--servers", default="", help="only these, by name, with commas between")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed to netapp; repeatable")
    parser.add_argument("--no-install", action="store_true", help="do not create bench/.venv-peers")
    parser.add_argument(
        "--profile", action="store_true", help="instead: where netapp's time goes (or --servers'), by py-spy"
    )
    parser.add_argument("--report", action="store_true", help="also write docs/benchmarks.md")
    return parser.parse_args()


def names() -> list[str]:
    """List the workloads."""
    return [workload.name for workload in workloads.ALL]


def chosen(wanted: list[str]) -> list[Workload]:
    """Select workloads by name or by a prefix that ends before a dash; all of them when nothing is named."""
    found = []
    for name in wanted or names():
        matching = [one for one in workloads.ALL if one.name == name or one.name.startswith(f"{name}-")]
        if not matching:
            sys.exit(f"no workload {name!r}; there are {', '.join(names())}")
        found += matching
    return found


def main() -> None:
    """Measure, print, and keep what was measured."""
    options = arguments()
    signal.signal(signal.SIGTERM, _stop)
    selected = chosen(options.workload)
    problem = None if options.no_install else peers.install_peers()
    if problem:
        runner.note(problem)
    cores = machine.pick_cores()
    if not cores.apart:
        runner.note("only one core: server and generator share it, so the figures are about both")
    setting = Setting(
        cores=cores,
        seconds=options.seconds,
        connections=options.connections,
        idle_connections=options.idle_connections,
        patience=options.patience,
        retries=options.retries,
        netapp=tuple(options.set),
    )
    wanted = set(filter(None, options.servers.split(",")))
    if options.profile:
        print_profiles(selected, setting, wanted or {"netapp"})
    else:
        measure(selected, setting, options, wanted)


def _stop(_number: int, _frame: object) -> NoReturn:
    """Leave through the context managers that end what was started."""
    sys.exit(128 + signal.SIGTERM)


def print_profiles(selected: list[Workload], setting: Setting, wanted: set[str]) -> None:
    """Profile the wanted servers under each workload; they must be Python."""
    for workload in selected:
        for subject in workload.subjects(setting):
            if subject.name in wanted:
                print(f"\n{workload.name}: {subject.about}\n{profiling.profile(workload, setting, subject)}")


def measure(selected: list[Workload], setting: Setting, options: argparse.Namespace, wanted: set[str]) -> None:
    """Run the workloads one after another, each printed and kept as soon as it is done."""
    described = machine.describe(setting.cores)
    print("\n".join(f"{name}: {value}" for name, value in described.items()))
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    shape = {"rounds": options.rounds, "seconds a sample": setting.seconds, "connections": setting.connections}
    outcomes: list[Outcome] = []
    for workload in selected:
        outcomes.append(runner.run(workload, setting, options.rounds, wanted))
        print(report.plain(outcomes[-1]), flush=True)
        document = {"machine": described, "settings": shape, "outcomes": outcomes}
        kept.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
    print(f"\nkept in {kept.relative_to(ROOT)}")
    if options.report:
        REPORT.write_text(report.markdown(outcomes, described, shape))
        print(f"written to {REPORT.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
