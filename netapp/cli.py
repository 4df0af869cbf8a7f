"""The ``netapp`` command: run, check, schema, call, status."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.internet import task
from twisted.internet.defer import Deferred

from netapp import __version__
from netapp.config import load_config, schema_json
from netapp.errors import ConfigError, NetappError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

DEFAULT_CALCULATOR = "tcp:127.0.0.1:7777"
DEFAULT_ADMIN = "http://127.0.0.1:9090"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 1 when it could not be done (2 for wrong arguments)."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"netapp: {problem}\n")
        return 1
    except NetappError as error:
        sys.stderr.write(f"netapp: {error}\n")
        return 1
    except BrokenPipeError:  # netapp schema | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="netapp", description="HTTP, WebSocket and TCP services on Twisted.")
    parser.add_argument("--version", action="version", version=f"netapp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)

    run = commands.add_parser("run", help="serve, with the best reactor there is")
    _add_configuration(run)
    run.add_argument("--reactor", default="", help="a Twisted reactor's short name, such as epoll or poll")
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="say everything that is wrong with a configuration; start nothing")
    check.add_argument("file", nargs="?", help="the configuration [default: $NETAPP_CONFIG]")
    check.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")
    check.set_defaults(command=_check)

    schema = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(command=_schema)

    call = commands.add_parser("call", help="call the calculator")
    call.add_argument("--endpoint", default=DEFAULT_CALCULATOR, help="a Twisted client endpoint [%(default)s]")
    call.add_argument("--framing", choices=("varint", "int32"), default="varint")
    call.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    calls = call.add_subparsers(title="calls", required=True)
    add = calls.add_parser("add", help="add two 32-bit integers")
    add.add_argument("a", type=int)
    add.add_argument("b", type=int)
    add.set_defaults(command=_call, ask=lambda client, options: client.add(options.a, options.b, options.timeout))
    echo = calls.add_parser("echo", help="send a text and print what comes back")
    echo.add_argument("text")
    echo.set_defaults(command=_call, ask=lambda client, options: client.echo(options.text, options.timeout))

    status = commands.add_parser("status", help="ask a running server's admin listener how it is")
    status.add_argument("--admin", default=DEFAULT_ADMIN, metavar="URL", help="[%(default)s]")
    status.add_argument("--token", default=os.environ.get("NETAPP_ADMIN_TOKEN", ""), help="[$NETAPP_ADMIN_TOKEN]")
    status.add_argument("--json", action="store_true", help="print the report as it is")
    status.set_defaults(command=_status)
    return parser


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML or JSON [default: $NETAPP_CONFIG]")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting")


def _run(options: argparse.Namespace) -> int:
    """Become twistd, in the foreground and without a PID file: a supervisor wants neither."""
    from twisted.scripts.twistd import run  # noqa: PLC0415 - it looks at the plugins of the whole installation

    command = ["twistd", "--nodaemon", "--pidfile="]
    if options.reactor:
        command.append(f"--reactor={options.reactor}")
    command.append("netapp")
    if options.config:
        command.append(f"--config={options.config}")
    command += [f"--set={setting}" for setting in options.set]
    sys.argv = command
    run()
    return 0


def _check(options: argparse.Namespace) -> int:
    """Load, and put together without binding anything."""
    config = load_config(options.file, options.set, os.environ)
    from twisted.internet import reactor  # noqa: PLC0415 - only this command needs one

    from netapp.app import compose  # noqa: PLC0415
    from netapp.app.process import find_modules_here  # noqa: PLC0415

    find_modules_here()
    compose(config, reactor)
    sys.stdout.write(f"{options.file or 'the configuration'} is valid\n")
    return 0


def _schema(_: argparse.Namespace) -> int:
    json.dump(schema_json(), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def _call(options: argparse.Namespace) -> int:
    from netapp.client.calculator import CalculatorClient  # noqa: PLC0415 - imports Twisted's reactor-less parts

    async def ask(reactor: Any) -> None:
        connecting = CalculatorClient.connect(reactor, options.endpoint, framing=options.framing)
        client = await connecting.addTimeout(options.timeout, reactor)
        try:
            sys.stdout.write(f"{await options.ask(client, options)}\n")
        finally:
            await client.close()

    return _react(ask)


def _status(options: argparse.Namespace) -> int:
    """Print the health report; status 1 when it says unhealthy, or when nobody answers."""
    parts = urlsplit(options.admin)
    if parts.scheme not in {"http", "https"}:
        sys.stderr.write(f"netapp: expected an http or https URL, found {options.admin!r}\n")
        return 2
    report: dict[str, Any] = {}

    async def ask(reactor: Any) -> None:
        import treq  # noqa: PLC0415 - only this command is an HTTP client

        headers: dict[bytes | str, bytes | str] = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        url = f"{options.admin.rstrip('/')}/healthz"
        response = await treq.get(url, headers=headers, timeout=5, reactor=reactor, persistent=False)
        if response.code not in {200, 503}:
            raise NetappError(f"{url} answered {response.code}")
        report.update(json.loads(await treq.content(response)))

    failed = _react(ask)
    if failed:
        return failed
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if options.json else _shown(report))
    return 1 if report.get("status") == "unhealthy" else 0


def _shown(report: dict[str, Any]) -> str:
    memory, lag = report["rss_bytes"] / 2**20, 1000 * report["event_loop_lag_seconds"]
    lines = [
        f"{report['status']}  netapp {report['version']}, up {report['uptime_seconds']:.0f} s",
        f"connections {report['open_connections']:.0f}, memory {memory:.1f} MiB, event loop lag {lag:.1f} ms",
    ]
    lines += [f"  {name:<18} {check['status']:<10} {check['detail']}" for name, check in report["checks"].items()]
    return "\n".join(lines) + "\n"


def _react(ask: Callable[[Any], Coroutine[Any, Any, None]]) -> int:
    """Run ``ask`` in a reactor of its own; an error is a sentence on standard error, and status 1."""
    problems: list[str] = []

    async def guarded(reactor: Any) -> None:
        try:
            await ask(reactor)
        except Exception as error:  # noqa: BLE001 - the command's last resort: whatever it is, it is said
            problems.append(_sentence(error))

    with contextlib.suppress(SystemExit):  # task.react always ends so
        task.react(lambda reactor: Deferred.fromCoroutine(guarded(reactor)))
    for problem in problems:
        sys.stderr.write(f"netapp: {problem}\n")
    return 1 if problems else 0


def _sentence(error: BaseException) -> str:
    """Say what went wrong, also where only the class of the error does."""
    reasons = getattr(error, "reasons", None)  # treq's ResponseFailed has the causes inside
    if reasons:
        return _sentence(reasons[0].value)
    return str(error) or type(error).__name__
