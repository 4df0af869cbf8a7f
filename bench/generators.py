"""Runs the load generators, pinned and bounded, and reads what they print."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.messages import as_lines
from bench.native import build
from bench.processes import MeasurementError, pinned, shown

if TYPE_CHECKING:
    from bench.machine import Cores

HERE = Path(__file__).parent
GRACE = 30.0
HELLO = b"Hello, World!"


def check_hello(port: int, path: str = "/hello") -> None:
    """Raise MeasurementError unless one GET is answered with 200 and the body that all servers must send."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200 or body != HELLO:
        raise MeasurementError(f"GET {path} gave {response.status} {body[:100]!r}, expected 200 {HELLO!r}")


def _run(command: list[str], seconds: int, text: str = "") -> dict[str, float]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds + GRACE, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"{Path(command[3]).name}: {done.stderr.strip() or done.stdout.strip()}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _latencies(found: dict[str, float]) -> dict[str, float]:
    return {f"{name}_ms": found[f"{name}_us"] / 1000 for name in ("p50", "p95", "p99", "max")}


def wrk_command(port: int, connections: int, seconds: int, cores: Cores, wrk: str) -> list[str]:
    """Compose the command line of wrk, one thread."""
    script = str(HERE / "wrk_report.lua")
    target = f"http://127.0.0.1:{port}/hello"
    return pinned(cores.load, [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, target])


def run_wrk(command: list[str], seconds: int) -> tuple[dict[str, float], str]:
    """Return rate, latencies and errors of one run, and the command as it can be repeated."""
    found = _run(command, seconds)
    errors = found["refused"] + found["broken"] + found["status"] + found["timeouts"]
    figures = {"rate": found["requests"] / found["seconds"], **_latencies(found), "errors": errors}
    return {**figures, "bytes_a_response": found["bytes"] / max(1, found["requests"])}, shown(command)


def loadgen_command(port: int, connections: int, inflight: int, seconds: int, cores: Cores) -> list[str]:
    """Compose the command line of bench/loadgen.c."""
    options = {"port": port, "connections": connections, "inflight": inflight, "seconds": seconds}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return pinned(cores.load, [str(build("loadgen")), *flags])


def run_loadgen(command: list[str], seconds: int, pairs: list[tuple[bytes, bytes]]) -> tuple[dict[str, float], str]:
    """Return rate and latencies of one run, whose every reply was checked, and the command."""
    found = _run(command, seconds, as_lines(pairs))
    figures = {"rate": found["messages"] / found["seconds"], **_latencies(found), "errors": found["silent"]}
    return figures, shown(command)
