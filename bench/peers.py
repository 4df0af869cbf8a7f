"""Who is measured: each server's command line, or the reason why it cannot run on this machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from bench.machine import python
from bench.native import build
from bench.processes import free_port

HERE = Path(__file__).parent
VENV = HERE / ".venv-peers"
INSTALL_PATIENCE = 300.0

NGINX = """
worker_processes 1;
daemon off;
pid {scratch}/nginx.pid;
error_log {scratch}/nginx-error.log warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  uwsgi_temp_path {scratch}/uwsgi;
  scgi_temp_path {scratch}/scgi;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /hello {{ default_type text/plain; return 200 "Hello, World!"; }}
  }}
}}
"""


class Launch(Struct, frozen=True):
    """A command that serves on 127.0.0.1 at `port`."""

    command: list[str]
    port: int


class Subject(Struct, frozen=True, kw_only=True):
    """One server under measurement; `launch` gets a scratch folder, `missing` says why it cannot be run here."""

    name: str
    about: str
    launch: Callable[[Path], Launch]
    missing: str | None = None
    echoes: bool = False


def install_peers() -> str | None:
    """Create bench/.venv-peers from peers.txt unless it is there; return what went wrong, if anything did."""
    if (VENV / "bin" / "uvicorn").exists():
        return None
    try:
        _run([sys.executable, "-m", "venv", str(VENV)])
        _run([str(VENV / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "-r", str(HERE / "peers.txt")])
    except (OSError, subprocess.SubprocessError) as problem:
        return f"the peers' environment could not be made: {problem}"
    return None


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=INSTALL_PATIENCE, stdout=sys.stderr)


def tool(name: str) -> str | None:
    """Find a program of the peers' environment, else of the project's, else of the system."""
    folders = (VENV / "bin", Path(python()).parent)
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _absent(name: str, remedy: str) -> str | None:
    return None if tool(name) else f"{name} is not installed ({remedy})"


def _at_free_port(command: Callable[[int], list[str]]) -> Callable[[Path], Launch]:
    def launch(_scratch: Path) -> Launch:
        port = free_port()
        return Launch(command(port), port)

    return launch


def nginx() -> Subject:
    """One nginx worker that answers from its configuration."""

    def launch(scratch: Path) -> Launch:
        port = free_port()
        settings = scratch / "nginx.conf"
        settings.write_text(NGINX.format(scratch=scratch, port=port))
        return Launch([tool("nginx") or "nginx", "-p", str(scratch), "-c", str(settings)], port)

    missing = _absent("nginx", "apt install nginx-light")
    return Subject(name="nginx", about="one worker, `return 200`, no access log", launch=launch, missing=missing)


def uvicorn() -> Subject:
    """One uvicorn worker with its fastest parts and no framework."""

    def command(port: int) -> list[str]:
        return [
            *(tool("uvicorn") or "uvicorn", "bench.apps.asgi_hello:app"),
            *("--host", "127.0.0.1", "--port", str(port), "--backlog", "4096", "--timeout-keep-alive", "75"),
            *("--http", "httptools", "--loop", "uvloop", "--lifespan", "off"),
            *("--no-access-log", "--log-level", "warning"),
        ]

    about = "httptools + uvloop, a raw ASGI application, no access log"
    return Subject(
        name="uvicorn", about=about, launch=_at_free_port(command), missing=_absent("uvicorn", "see bench/peers.txt")
    )


def granian() -> Subject:
    """One granian worker with one thread and no framework."""

    def command(port: int) -> list[str]:
        return [
            *(tool("granian") or "granian", "bench.apps.asgi_hello:app"),
            *("--host", "127.0.0.1", "--port", str(port), "--interface", "asginl", "--loop", "uvloop"),
            *("--http", "1", "--workers", "1", "--runtime-threads", "1", "--no-ws", "--log-level", "warning"),
        ]

    about = "one worker, one thread, uvloop, a raw ASGI application, no access log"
    return Subject(
        name="granian", about=about, launch=_at_free_port(command), missing=_absent("granian", "see bench/peers.txt")
    )


def _twisted(role: str, name: str, about: str, *, echoes: bool = False, missing: str | None = None) -> Subject:
    def command(port: int) -> list[str]:
        return [python(), str(HERE / "apps" / "twisted_peer.py"), role, str(port)]

    return Subject(name=name, about=about, launch=_at_free_port(command), echoes=echoes, missing=missing)


def twisted_web() -> Subject:
    """Twisted's own web server on Twisted's own reactor."""
    return _twisted("web", "twisted.web", "Site with one child resource, epoll reactor, no access log")


def twisted_echo() -> Subject:
    """The least a Twisted protocol can do."""
    return _twisted("echo", "twisted-echo", "a two-line Protocol, epoll reactor", echoes=True)


def twisted_calculator() -> Subject:
    """The least a calculator on Twisted can do: no limits, no errors, no metrics."""
    missing = None if _generated() else "netapp.protocols.calculator_pb2 is not built (make proto)"
    about = "a bare Protocol with the same generated messages, epoll reactor"
    return _twisted("calculator", "twisted-calculator", about, missing=missing)


def _generated() -> bool:
    try:
        return find_spec("netapp.protocols.calculator_pb2") is not None
    except ImportError:
        return False


def c_echo() -> Subject:
    """The limit: what the sockets themselves cost."""

    def command(port: int) -> list[str]:
        return [str(build("echo_server")), str(port)]

    missing = None if shutil.which("cc") else "no C compiler (cc)"
    return Subject(
        name="c-echo", about="C, epoll, one thread", launch=_at_free_port(command), missing=missing, echoes=True
    )


def netapp(listener: str, settings: tuple[str, ...] = ()) -> Subject:
    """The server itself, everything on as it is by default; `listener` is the one under load, `settings` KEY=VALUE."""

    def launch(_scratch: Path) -> Launch:
        ports = {name: free_port() for name in ("web", "calculator", "echo")}
        endpoints = {f"listeners.{name}.endpoint": port for name, port in ports.items()}
        endpoints["admin.endpoint"] = free_port()
        chosen = [f"{key}=tcp:{port}:interface=127.0.0.1" for key, port in endpoints.items()]
        flags = [part for setting in (*chosen, *settings) for part in ("--set", setting)]
        return Launch([tool("netapp") or "netapp", "run", *flags], ports[listener])

    about = "netapp run, defaults" + (f" and {', '.join(settings)}" if settings else "")
    return Subject(name="netapp", about=about, launch=launch, missing=_absent("netapp", "pip install -e ."))


def netapp_engine() -> Subject:
    """The HTTP engine alone: what the planes around it cost is the difference to the server."""

    def command(port: int) -> list[str]:
        return [python(), str(HERE / "apps" / "netapp_engine.py"), str(port)]

    about = "Http1Factory with a Router as a library, epoll reactor, no filters"
    return Subject(name="netapp-engine", about=about, launch=_at_free_port(command))
