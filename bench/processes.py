"""Servers started on a core, watched through /proc, and ended whatever happens."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.machine import Cores

ROOT = Path(__file__).parent.parent
QUIET = 0.1
"""Cores' worth of foreign work above which a sample is called disturbed."""
START_PATIENCE = 20.0
STOP_PATIENCE = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")


class MeasurementError(Exception):
    """A server or a generator did not do what the measurement needs; the text says which and how."""


class Running(Struct, frozen=True):
    """A server that answers on 127.0.0.1."""

    pid: int
    port: int
    command: str


class Memory(Struct, frozen=True):
    """Bytes of a process and its descendants: what they allocated, and all that is resident."""

    anonymous: int
    resident: int


def free_port() -> int:
    """Ask the kernel for a TCP port that nobody on 127.0.0.1 uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int, command: list[str]) -> list[str]:
    """Prefix a command so that it runs on one core, in a form that can be typed in a shell."""
    return ["taskset", "-c", str(core), *command]


def shown(command: list[str], scratch: Path | None = None) -> str:
    """Write a command as it can be repeated from the repository's root: no path of this machine in it."""
    text = shlex.join(command).replace(f"{ROOT}/", "")
    return text if scratch is None else text.replace(str(scratch), "$SCRATCH")


@contextmanager
def running(command: list[str], *, core: int, port: int, scratch: Path) -> Iterator[Running]:
    """Run a server until the block ends; raises MeasurementError when it does not listen within START_PATIENCE."""
    log = scratch / "server.log"
    whole = pinned(core, command)
    with log.open("wb") as output:
        server = subprocess.Popen(
            whole,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=scratch,
            env=_environment(),
            start_new_session=True,
        )
    try:
        _await_listening(server, port, log)
        yield Running(server.pid, port, shown(whole, scratch))
    finally:
        _end(server)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def _await_listening(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    ended = "does not listen" if server.returncode is None else f"ended with status {server.returncode}"
    tail = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise MeasurementError("\n".join([f"the server {ended}", *tail]))


def _end(server: subprocess.Popen[bytes]) -> None:
    """Terminate the server, then whatever is left of the session that was made for it."""
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(STOP_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(STOP_PATIENCE)


def tree(pid: int) -> list[int]:
    """Return a process and its descendants that still run."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        with suppress(OSError):
            children = Path(f"/proc/{current}/task/{current}/children").read_text().split()
            found.append(current)
            queue.extend(map(int, children))
    return found


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Processor seconds that a process and its live descendants have used: in user mode, and in the kernel."""
    user = system = 0
    for member in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
    return user / _TICKS, system / _TICKS


def memory(pid: int) -> Memory:
    """Sum /proc/PID/smaps_rollup over a process and its descendants."""
    sums = {"Anonymous": 0, "Rss": 0}
    for member in tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) * 1024
    return Memory(anonymous=sums["Anonymous"], resident=sums["Rss"])


def settled_memory(pid: int, *, patience: float = 10.0) -> Memory:
    """Wait until two readings half a second apart agree within 0.2 %, and return the last."""
    deadline = time.monotonic() + patience
    before = memory(pid)
    while True:
        time.sleep(0.5)
        after = memory(pid)
        if abs(after.anonymous - before.anonymous) <= 0.002 * before.anonymous or time.monotonic() > deadline:
            return after
        before = after


class Watch:
    """How busy the two cores were over a block, and with whose work."""

    def __init__(self, pid: int, cores: Cores) -> None:
        self._pid = pid
        self._cores = {cores.server, cores.load}
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float, float]:
        user, system = cpu_seconds(self._pid)
        spent = os.times()
        load = spent.children_user + spent.children_system
        return time.monotonic(), user + system, system, load, busy_seconds(self._cores)

    def shares(self) -> dict[str, float]:
        """Cores' worth of time taken since the start: by the server, by ended children, and by everybody else.

        ``server_system`` is the kernel's share of the server's time.
        """
        wall, server, system, load, busy = (now - then for now, then in zip(self._read(), self._before, strict=True))
        others = max(0.0, busy - server - load)
        shares = {"server_cpu": server / wall, "load_cpu": load / wall, "others_cpu": others / wall}
        return {**shares, "server_system": system / server if server else 0.0}


def busy_seconds(cores: set[int]) -> float:
    """Seconds of user, nice, system and stolen time on some cores since boot; interrupts are nobody's."""
    rows = (line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu"))
    wanted = {f"cpu{core}" for core in cores}
    return sum(int(row[i]) for row in rows if row[0] in wanted for i in (1, 2, 3, 8)) / _TICKS


def await_quiet(cores: Cores, patience: float) -> None:
    """Wait, at most `patience` seconds, for half a second in which nobody else works on the two cores."""
    wanted = {cores.server, cores.load}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before, began = busy_seconds(wanted), time.monotonic()
        time.sleep(0.5)
        if (busy_seconds(wanted) - before) / (time.monotonic() - began) <= QUIET:
            return
