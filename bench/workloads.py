"""What is measured: for each workload its servers, its baseline, and how one sample of one server is taken."""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Protocol

from msgspec import Struct

from bench import generators, messages, peers
from bench.machine import Cores
from bench.native import build
from bench.processes import MeasurementError, Running, Watch, memory, pinned, settled_memory, shown
from bench.results import Column, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Subject

WARM_UP = 1

RATE_COLUMNS = (
    Column("rate", "per second", ",.0f"),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p95_ms", "p95 ms", ".2f"),
    Column("p99_ms", "p99 ms", ".2f"),
    Column("errors", "errors", ".0f"),
    Column("server_cpu", "server CPU", ".2f"),
    Column("server_system", "of it kernel", ".0%"),
    Column("load_cpu", "load CPU", ".2f"),
    Column("others_cpu", "others' CPU", ".2f"),
    Column("per_cpu_second", "per CPU second", ",.0f"),
)

IDLE_COLUMNS = (
    Column("bytes_each", "bytes a connection", ",.0f"),
    Column("resident_each", "resident", ",.0f"),
    Column("new_p50_ms", "new p50 ms", ".2f"),
    Column("new_p95_ms", "p95", ".2f"),
    Column("new_p99_ms", "p99", ".2f"),
    Column("held_p50_ms", "held p50 ms", ".2f"),
    Column("held_p95_ms", "p95", ".2f"),
    Column("held_p99_ms", "p99", ".2f"),
    Column("errors", "errors", ".0f"),
    Column("open", "open at the end", ",.0f"),
)


class Setting(Struct, frozen=True, kw_only=True):
    """How long, how wide and where."""

    cores: Cores
    seconds: int
    connections: int
    idle_connections: int
    patience: float = 0.0
    retries: int = 0
    netapp: tuple[str, ...] = ()


class Workload(Protocol):
    """A way to load a server and what to read off."""

    name: str
    about: str
    figure: str
    baseline: str
    columns: tuple[Column, ...]

    def subjects(self, setting: Setting) -> list[Subject]:
        """List the servers in the order in which they take turns."""

    def measure(self, setting: Setting, server: Running, subject: Subject) -> Sample:
        """Take one sample; raises MeasurementError."""


def _with_shares(figures: dict[str, float], shares: dict[str, float]) -> dict[str, float]:
    per_cpu = {"per_cpu_second": figures["rate"] / shares["server_cpu"]} if shares["server_cpu"] else {}
    return {**figures, **shares, **per_cpu}


class HttpHello:
    """wrk, keep-alive, one request in flight a connection."""

    name = "http-hello"
    about = "HTTP/1.1 keep-alive, `Hello, World!`, wrk -t1, one request in flight a connection"
    figure = "rate"
    baseline = "nginx"
    columns = (*RATE_COLUMNS, Column("bytes_a_response", "bytes a response", ".0f"))

    def subjects(self, setting: Setting) -> list[Subject]:
        return [
            peers.nginx(),
            peers.netapp("web", setting.netapp),
            peers.netapp_engine(),
            peers.uvicorn(),
            peers.granian(),
            peers.twisted_web(),
        ]

    def measure(self, setting: Setting, server: Running, subject: Subject) -> Sample:
        generators.check_hello(server.port)
        wrk = peers.tool("wrk")
        if wrk is None:
            raise MeasurementError(f"{subject.name} needs wrk to be measured (apt install wrk)")
        warm, whole = (
            generators.wrk_command(server.port, setting.connections, seconds, setting.cores, wrk)
            for seconds in (WARM_UP, setting.seconds)
        )
        generators.run_wrk(warm, WARM_UP)
        watch = Watch(server.pid, setting.cores)
        figures, load = generators.run_wrk(whole, setting.seconds)
        return Sample(_with_shares(figures, watch.shares()), server.command, load)


class _TcpMessages:
    """bench/loadgen.c with a window of messages a connection."""

    figure = "rate"
    columns = RATE_COLUMNS
    baseline = "c-echo"
    words: ClassVar[str]

    def __init__(self, inflight: int) -> None:
        self.name = f"{self.words}-{inflight}"
        self.about = f"{self.describe()}, {inflight} in flight a connection, every byte of every reply checked"
        self._inflight = inflight

    def describe(self) -> str:
        raise NotImplementedError

    def pairs(self, connections: int) -> list[tuple[bytes, bytes]]:
        raise NotImplementedError

    def measure(self, setting: Setting, server: Running, subject: Subject) -> Sample:
        pairs = self.pairs(min(setting.connections, 256))
        pairs = messages.same_back(pairs) if subject.echoes else pairs
        warm, whole = (
            generators.loadgen_command(server.port, setting.connections, self._inflight, seconds, setting.cores)
            for seconds in (WARM_UP, setting.seconds)
        )
        generators.run_loadgen(warm, WARM_UP, pairs)
        watch = Watch(server.pid, setting.cores)
        figures, load = generators.run_loadgen(whole, setting.seconds, pairs)
        return Sample(_with_shares(figures, watch.shares()), server.command, load)


class Calculator(_TcpMessages):
    """Sums asked of the calculator; the echoes beside it send the same bytes and get them back."""

    words = "calculator"

    def describe(self) -> str:
        return "protocol-buffers AddRequest behind a varint length"

    def pairs(self, connections: int) -> list[tuple[bytes, bytes]]:
        return messages.additions(connections)

    def subjects(self, setting: Setting) -> list[Subject]:
        return [peers.c_echo(), peers.netapp("calculator", setting.netapp), peers.twisted_calculator()]


class TcpEcho(_TcpMessages):
    """Raw bytes back."""

    words = "tcp-echo"

    def describe(self) -> str:
        return "TCP echo of 16 bytes"

    def pairs(self, connections: int) -> list[tuple[bytes, bytes]]:
        return messages.echoes(connections)

    def subjects(self, setting: Setting) -> list[Subject]:
        return [peers.c_echo(), peers.netapp("echo", setting.netapp), peers.twisted_echo()]


class Idle:
    """Many keep-alive connections held while a few requests are made; see bench/idle.c."""

    name = "idle"
    figure = "bytes_each"
    baseline = "nginx"
    columns = IDLE_COLUMNS
    about = "idle keep-alive HTTP connections held; 500 requests/s on new ones, then on held ones"

    def subjects(self, setting: Setting) -> list[Subject]:
        roomy = (f"listeners.web.admission.max_connections={setting.idle_connections + 5000}",)
        return [
            peers.nginx(),
            peers.netapp("web", (*roomy, *setting.netapp)),
            peers.uvicorn(),
            peers.twisted_web(),
        ]

    def measure(self, setting: Setting, server: Running, subject: Subject) -> Sample:  # noqa: ARG002 - one way for all
        generators.check_hello(server.port)
        command = pinned(setting.cores.load, self._command(setting, server.port))
        _rehearse(command, setting)
        empty = settled_memory(server.pid)
        with _holding(command) as client:
            opened = _read_phase(client)
            full = settled_memory(server.pid)
            _next(client)
            new, held, end = (_read_phase(client) for _ in range(3))
            after = memory(server.pid)
        count = opened["answered"]
        figures = {
            "bytes_each": (full.anonymous - empty.anonymous) / count,
            "resident_each": (full.resident - empty.resident) / count,
            "bytes_each_after_probes": (after.anonymous - empty.anonymous) / count,
            **{f"new_{name}_ms": new[f"{name}_us"] / 1000 for name in ("p50", "p95", "p99", "max")},
            **{f"held_{name}_ms": held[f"{name}_us"] / 1000 for name in ("p50", "p95", "p99", "max")},
            "errors": opened["errors"] + new["errors"] + held["errors"],
            "open": end["open"],
        }
        return Sample(figures, server.command, shown(command))

    def _command(self, setting: Setting, port: int) -> list[str]:
        options = {"port": port, "connections": setting.idle_connections, "rate": 500, "seconds": setting.seconds}
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return [str(build("idle")), *flags, "--body", generators.HELLO.decode()]


def _rehearse(command: list[str], setting: Setting) -> None:
    """Open a few connections and close them, so that what a server allocates once is not counted for each."""
    few = [*command, "--connections", str(min(100, setting.idle_connections)), "--seconds", "1"]
    with _holding(few) as client:
        _read_phase(client)
        _next(client)
        for _ in range(3):
            _read_phase(client)


@contextmanager
def _holding(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield client
    finally:
        client.kill()
        client.communicate()


def _next(client: subprocess.Popen[str]) -> None:
    client.stdin.write("\n")
    client.stdin.flush()


def _read_phase(client: subprocess.Popen[str]) -> dict[str, float]:
    line = client.stdout.readline()
    if not line:
        raise MeasurementError(f"idle: {client.stderr.read().strip()}")
    found: dict[str, float] = json.loads(line)
    return found


ALL: tuple[Workload, ...] = (HttpHello(), Calculator(1), Calculator(16), TcpEcho(1), TcpEcho(16), Idle())
