"""What this process costs: memory, descriptors, CPU time, age.

Each function reads ``/proc`` afresh (proc(5)) and falls back to what POSIX offers where there is no such folder. None
of them raises: a health page that fails because the process is in trouble would be of no use.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from functools import cache
from pathlib import Path

_PROC = Path("/proc/self")
_DEV_FD = Path("/dev/fd")
_PAGE = resource.getpagesize()
_RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024
_STARTED = time.time()


def virtual_bytes(proc: Path = _PROC) -> int:
    """Size of the address space in bytes; 0 where the system does not say."""
    return _statm(proc, 0)


def rss_bytes(proc: Path = _PROC) -> int:
    """Resident memory in bytes; without ``/proc``, its peak so far (getrusage(2))."""
    return _statm(proc, 1) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RUSAGE_UNIT


def open_fds(proc: Path = _PROC, fallback: Path = _DEV_FD) -> int:
    """How many descriptors are open; 0 where the system does not say.

    Since Linux 6.2 the size of the folder is their number. Counting the entries, the only way before that, takes a
    millisecond for each 1,500 descriptors, which matters to a process that holds 50,000.
    """
    folder = proc / "fd"
    try:
        return folder.stat().st_size or _entries(folder)
    except OSError:
        return _entries(fallback)


def fd_limit() -> int:
    """How many descriptors may be open (the soft RLIMIT_NOFILE); 0 for no limit."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if soft == resource.RLIM_INFINITY else soft


def cpu_seconds() -> float:
    """User and system time spent so far, of all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def uptime_seconds(proc: Path = _PROC) -> float:
    """Seconds since the process was started, a suspend included; setting the wall clock does not change them.

    Without ``/proc``: since this module was imported, by the wall clock.
    """
    try:
        # The command's name, in parentheses, may itself hold blanks and parentheses; field 22 is the start.
        fields = (proc / "stat").read_bytes().rpartition(b")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return max(0.0, time.time() - _STARTED)


def start_time() -> float:
    """When the process was started, in seconds since the epoch.

    The same number at every call: monitoring takes a change for a restart.
    """
    return _start_of(os.getpid())


@cache
def _start_of(_pid: int) -> float:
    return time.time() - uptime_seconds()


def _statm(proc: Path, field: int) -> int:
    try:
        return int((proc / "statm").read_bytes().split()[field]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def _entries(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(1 for _ in entries)
    except OSError:
        return 0
