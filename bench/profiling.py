"""Where netapp's time goes under a workload: py-spy's samples, summed by the function that was running."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers import tool
from bench.processes import MeasurementError, running

if TYPE_CHECKING:
    from bench.peers import Subject
    from bench.workloads import Setting, Workload

RATE = 200
TOP = 30
SETTLE = 2  # seconds: the workload's warm-up is over by then


def profile(workload: Workload, setting: Setting, subject: Subject) -> str:
    """Load one server, sample its stacks meanwhile, and return a table of the functions by self time."""
    spy = tool("py-spy")
    if spy is None:
        raise MeasurementError("py-spy is not installed (see bench/peers.txt)")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        launch = subject.launch(scratch)
        with running(launch.command, core=setting.cores.server, port=launch.port, scratch=scratch) as server:
            load = threading.Thread(target=workload.measure, args=(setting, server, subject))
            load.start()
            load.join(SETTLE)
            stacks = scratch / "stacks"
            _record(spy, server.pid, max(1, setting.seconds - SETTLE), stacks)
            load.join()
        return _table(stacks.read_text())


def _record(spy: str, pid: int, seconds: int, stacks: Path) -> None:
    command = [spy, "record", "--pid", str(pid), "--format", "raw", "--output", str(stacks)]
    command += ["--rate", str(RATE), "--duration", str(seconds), "--function"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"py-spy: {done.stderr.strip()}")


def _layer(frame: str) -> str:
    """Name the package a frame belongs to: "netapp/http", "twisted/internet"; C code counts for its caller."""
    folders = frame.rpartition("(")[2].split("/")[:-1]
    return "/".join(folders[:2]) or "other"


def _table(stacks: str) -> str:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = sum(own.values()) or 1
    layers: Counter[str] = Counter()
    for frame, count in own.items():
        layers[_layer(frame)] += count
    lines = [f"{100 * count / total:5.1f}% in {layer}" for layer, count in layers.most_common()]
    lines.append(f"{'self':>6} {'total':>6}  function ({total} samples)")
    for frame, count in own.most_common(TOP):
        lines.append(f"{100 * count / total:5.1f}% {100 * whole[frame] / total:5.1f}%  {frame}")
    return "\n".join(lines)
