"""Does what a page of the documentation shows: writes its files, types its commands, starts its servers.

Three kinds of fenced blocks are played, in their order, in one folder:

- a block whose first line is a comment with nothing but a file's name *is* that file;
- in a ``console`` block each line after ``$ `` is given to a shell, and must print what stands below it, and succeed,
  unless ``$ echo $?`` follows;
- a ``text`` block is what the running server logs: its lines are waited for, in their order.

``...`` stands for anything. A command that serves goes on while the page does, until the next one that serves; it must
then end with status 0 when it is told to. ``PID`` stands for its process. Ports are moved to free ones everywhere.
"""

import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import BIN, Server

ROOT = Path(__file__).parents[2]
PORTS = {"web": 8080, "calculator": 7777, "echo": 7007, "admin": 9090}
"""Where netapp listens unless it is told otherwise."""
OTHERS = (7000, 7400, 8081, 8443, 8444)
"""Further ports that pages use."""
COMMAND_SECONDS = 60

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_NAME = re.compile(r"# (?P<name>[\w/-]+\.[a-z]+)")
_SERVES = re.compile(r"([A-Z_]+=\S+ )*(netapp run|twistd -n)\b")


class Block(NamedTuple):
    """One fenced block: where it is, its language, and its lines."""

    place: str
    language: str
    lines: list[str]

    @property
    def file(self):
        """The name of the file that it is, if it is one."""
        found = _NAME.fullmatch(self.lines[0]) if self.lines and self.language != "console" else None
        return found["name"] if found else ""

    @property
    def text(self):
        return "".join(f"{line}\n" for line in self.lines)


class Command(NamedTuple):
    """What is typed, and what it prints."""

    place: str
    text: str
    expected: str


def blocks(page):
    """Yield every fenced block of a Markdown file."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        lines = [line.removeprefix(found["indent"]) for line in found["text"].splitlines()]
        yield Block(f"{page.name}:{line}", found["language"], lines)


def commands(block):
    """Yield the commands of a console block."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"{block.place}: a console block begins with a command"
    for part in parts[1:]:
        command, _, expected = part.partition("\n")
        yield Command(block.place, command, expected)


def looks_like(expected, got):
    """Whether ``got`` is what is expected, in which ``...`` stands for anything."""
    return re.fullmatch(_pattern(expected.strip()), got.strip(), re.DOTALL) is not None


def _pattern(expected):
    return re.escape(expected).replace(r"\.\.\.", ".*?")


class Session:
    """Somebody at a terminal, in ``folder``; ``with Session(...) as session`` ends what is still serving."""

    def __init__(self, folder):
        self._folder = folder
        (folder / ".curlrc").write_text("silent\nshow-error\n")  # as curl is when a person looks at it
        self._environ = {
            "CURL_HOME": str(folder),
            "NETAPP__SERVER__DRAIN_DELAY": "0.1s",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._ports = {port: _free_port() for port in (*PORTS.values(), *OTHERS)}
        self._stack = ExitStack()
        self._server = None
        self._seen = 0
        self._status = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def play(self, page, skip=0):
        """Do everything that a page shows, but for its first ``skip`` blocks."""
        for block in islice(blocks(page), skip, None):
            if block.file:
                self.write(block.file, block.text)
            elif block.language == "console":
                for command in commands(block):
                    self.type(command)
            elif block.language == "text":
                self.expect_log(block)
        assert self._status == 0, f"the last command of {page.name} failed with {self._status}"

    def write(self, name, text):
        """Make a file."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._moved(text), encoding="utf-8")

    def type(self, command):
        """Give a command to the shell and look at what it does."""
        text = self._moved(command.text)
        if _SERVES.match(text):
            self._serve(text)
            self.expect_log(Block(command.place, "text", command.expected.splitlines()))
        elif text.startswith("export "):
            name, _, value = text.removeprefix("export ").partition("=")
            self._environ[name] = value.replace("$PWD", str(self._folder))
        elif text == "echo $?":
            assert looks_like(command.expected, str(self._status)), f"{command.place}: the status was {self._status}"
            self._status = 0
        else:
            self._run(text, command)

    def expect_log(self, block):
        """Wait until the server has logged these lines."""
        lines = [re.compile(_pattern(self._moved(line.strip()))) for line in block.lines if line.strip()]
        try:
            self._server.wait_for(lambda: self._logged(lines) or self._server.process.poll() is not None, block.place)
            assert self._logged(lines)
        except AssertionError:
            raise AssertionError(f"{block.place} is not in the log:\n{self._server.text}") from None

    def stop(self):
        """End the server, if there is one, as its operator does: it must not mind."""
        server, self._server = self._server, None
        if server is not None:
            if server.process.poll() is None:
                server.send(signal.SIGTERM)
            assert server.process.wait(COMMAND_SECONDS) == 0, server.text

    def _logged(self, lines):
        position = 0
        for line in lines:
            found = line.search(self._server.text, position)
            if found is None:
                return False
            position = found.end()
        return True

    def _serve(self, text):
        self.stop()
        words = shlex.split(text, comments=True)
        environ = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        words = words[len(environ) :]
        self._server = Server(
            *self._moves(text),
            command=[str(BIN / words[0]), *words[1:]],
            cwd=self._folder,
            env={**self._environ, **environ},
        )
        self._stack.push(self._server.__exit__)
        self._server.ports["admin"] = self._ports[PORTS["admin"]]  # its banner may go to a file
        self._server.__enter__()

    def _moves(self, text):
        """Move what listens without being asked to; a program of one's own (``-y``) takes no settings."""
        if " -y " in text:
            return
        config = re.search(r"(?:--config[= ]|NETAPP_CONFIG=)(\S+)", text)
        document = tomllib.loads((self._folder / config[1]).read_text()) if config else {}
        listeners = PORTS if "listeners" not in document else {"admin": PORTS["admin"]}
        for name, port in listeners.items():
            key = "admin.endpoint" if name == "admin" else f"listeners.{name}.endpoint"
            told = key in text or (name == "web" and "NETAPP_PORT" in text)
            if not told and not (name == "admin" and "endpoint" in document.get("admin", {})):
                yield f"--set={key}=tcp:{self._ports[port]}:interface=127.0.0.1"

    def _run(self, text, command):
        assert self._status == 0, f"{command.place}: the command before this one failed with {self._status}"
        done = subprocess.run(
            ["sh", "-c", text],
            cwd=self._folder,
            env={**os.environ, **self._environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        self._status = done.returncode
        expected = self._moved(command.expected)
        problem = f"{command.place}: $ {text}\nprinted\n{done.stdout}\nand not\n{expected}"
        assert not expected.strip() or looks_like(expected, done.stdout), problem
        assert expected.strip() or self._status == 0, problem

    def _moved(self, text):
        """Write what is to be run here: with our ports, our Python and the server's process."""
        text = re.sub(r"(?<![\d.])\d{4}(?!\d)", lambda found: str(self._ports.get(int(found[0]), found[0])), text)
        text = text.replace(".venv/bin", f"{sys.prefix}/bin").replace("examples/", f"{ROOT}/examples/")
        text = re.sub(r"netapp call (?!--)", f"netapp call --endpoint tcp:127.0.0.1:{self._ports[7777]} ", text)
        text = re.sub(r"netapp status(?! --admin)", f"netapp status --admin http://127.0.0.1:{self._ports[9090]}", text)
        return text if self._server is None else re.sub(r"\bPID\b", str(self._server.process.pid), text)


def _free_port():
    """A port that nobody uses, from below those that the kernel gives to clients: none of them can take it away."""
    chance = random.Random(os.urandom(8))
    while True:
        port = chance.randrange(20_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
