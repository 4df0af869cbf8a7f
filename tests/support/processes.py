"""netapp as a process of its own, on free ports, for tests that look at it from outside."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

BIN = Path(sys.executable).parent
LINE = re.compile(
    r"\s(?P<name>[\w-]+)\s+(?P<kind>[\w.:]+)\s+(?P<scheme>\w+)://(?P<host>[^/:]+):(?P<port>\d+)(?P<path>/\S*)?$"
)
FREE = [
    "--set=listeners.web.endpoint=tcp:0:interface=127.0.0.1",
    "--set=listeners.calculator.endpoint=tcp:0:interface=127.0.0.1",
    "--set=listeners.echo.endpoint=tcp:0:interface=127.0.0.1",
    "--set=admin.endpoint=tcp:0:interface=127.0.0.1",
]
DEADLINE = 30.0


class Server:
    """A running server; ``with Server(...) as server`` ends it by its pid, whatever happens.

    ``ports`` maps a listener's name to its port, as the banner told it. ``output`` has the lines so far.
    """

    def __init__(self, *arguments, command=None, cwd=None, env=None, log=None):
        self.output = []
        self.ports = {}
        self.process = subprocess.Popen(
            [*(command or [str(BIN / "netapp"), "run"]), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        self._log = log
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            self._note(self.output[-1])

    def _note(self, line):
        found = LINE.search(line)
        if found:
            self.ports[found["name"]] = int(found["port"])

    def __enter__(self):
        try:
            self.wait_for(self._has_banner, "the banner")
            self.wait_for(lambda: self.status("/readyz") == 200, "readiness")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _has_banner(self):
        if self._log is not None and self._log.exists():
            for line in self._log.read_text().splitlines():
                self._note(line)
        return "admin" in self.ports

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE)
        self.process.stdout.close()

    def wait_for(self, condition, what):
        end = time.monotonic() + DEADLINE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no {what}; the output was:\n" + "\n".join(self.output))
            time.sleep(0.02)

    def get(self, path, listener="admin"):
        """Return status and body."""
        url = f"http://127.0.0.1:{self.ports[listener]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def status(self, path, listener="admin"):
        try:
            return self.get(path, listener)[0]
        except OSError:
            return 0

    def metric(self, name):
        """Return one sample's value, named as the page names it; 0 when it is not there."""
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Ask it to stop; return its exit status."""
        self.send(number)
        status = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return status

    @property
    def text(self):
        return "\n".join(self.output)
