"""The netapp command, as far as it needs no server: arguments, exit status, and what is said when it fails."""

import io
import json
import os
import sys

import pytest

from netapp import __version__, cli


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NETAPP")]:
        monkeypatch.delenv(name)


def test_check_says_that_a_good_configuration_is_valid(tmp_path, capsys):
    file = tmp_path / "good.toml"
    file.write_text('[listeners.one]\nkind = "echo"\nendpoint = "tcp:0"\n')
    assert cli.main(["check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file} is valid\n"


def test_check_tells_every_problem_on_a_line_of_its_own(capsys):
    assert cli.main(["check", "--set", "listeners.web.kind=nothing", "--set", "server.drain_delay=soon"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("netapp: ") for line in said)


def test_schema_is_a_json_schema(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


def test_a_reader_that_goes_away_is_no_traceback(monkeypatch, tmp_path):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

        def fileno(self):
            return self.file.fileno()

    closed = Closed()
    with (tmp_path / "out").open("w") as closed.file:
        monkeypatch.setattr(sys, "stdout", closed)
        assert cli.main(["schema"]) == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"netapp {__version__}\n"


def test_run_becomes_twistd_in_the_foreground_without_a_pid_file(monkeypatch):
    """A supervisor wants neither a daemon nor a file that a crash leaves behind."""
    seen = []
    monkeypatch.setattr("twisted.scripts.twistd.run", lambda: seen.append(list(sys.argv)))
    monkeypatch.setattr(sys, "argv", ["netapp"])
    assert cli.main(["run", "--config", "a.toml", "--set", "x=1", "--set", "y=2", "--reactor", "poll"]) == 0
    assert seen == [
        [
            "twistd",
            "--nodaemon",
            "--pidfile=",
            "--reactor=poll",
            "netapp",
            "--config=a.toml",
            "--set=x=1",
            "--set=y=2",
        ]
    ]


def test_status_asks_for_a_url(capsys):
    assert cli.main(["status", "--admin", "localhost:9090"]) == 2
    assert "expected an http or https URL" in capsys.readouterr().err
