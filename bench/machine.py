"""What the figures were measured on: the cores used and a description that names no host."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from msgspec import Struct

_LIBRARIES = ("Twisted", "httptools", "uvloop", "protobuf", "msgspec", "autobahn", "uvicorn")


class Cores(Struct, frozen=True):
    """Where the server and the load generator are pinned."""

    server: int
    load: int

    @property
    def apart(self) -> bool:
        """Whether the two do not compete for one core."""
        return self.server != self.load


def pick_cores() -> Cores:
    """Choose the first two cores that this process may use; the same one twice when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(server=allowed[0], load=allowed[min(1, len(allowed) - 1)])


def describe(cores: Cores) -> dict[str, str]:
    """Processor, memory, kernel, versions and revision, in the order of printing."""
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} (server on {cores.server}, load on {cores.load})",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(_versions()),
        "revision": revision(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _versions() -> list[str]:
    known = {distribution.metadata["Name"].lower(): distribution.version for distribution in metadata.distributions()}
    return [f"{name} {known[name.lower()]}" for name in _LIBRARIES if name.lower() in known]


def revision() -> str:
    """Name the commit measured, marked when the package's files differ from it; "unknown" outside a clone."""
    here = Path(__file__).parent.parent
    try:
        commit = _git(here, "rev-parse", "--short", "HEAD")
        changed = _git(here, "status", "--porcelain", "--", "netapp")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def python() -> str:
    """Return the interpreter that runs this, by the path it was called with."""
    return sys.executable
