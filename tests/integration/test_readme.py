"""The README is typed, line by line, as somebody would who has just cloned the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT, Command, Session, blocks, commands
from tests.support.tools import needs

README = ROOT / "README.md"

pytestmark = needs("curl", "make", "openssl")


def planned(target):
    """What make would run for a target, in an environment that is set up already."""
    stamp = f"{sys.prefix}/.installed"
    make = ["make", "--dry-run", f"--old-file={stamp}", f"VENV={sys.prefix}", target]
    # these tests are run by make themselves, which tells its children so
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(make, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_it_opens_with_two_commands():
    first = next(blocks(README))
    assert [command.text for command in commands(first)] == ["make run", "make test"]
    assert README.read_text().splitlines().index("$ make run") < 5


def test_make_run_serves_and_every_line_after_it_does_what_is_shown(tmp_path):
    [serve] = planned("run")
    assert re.fullmatch(rf"{re.escape(sys.prefix)}/bin/netapp run\s*", serve)
    with Session(tmp_path) as somebody:
        somebody.type(Command("README.md", "netapp run", ""))
        somebody.play(README, skip=1)
        somebody.stop()


@pytest.mark.parametrize(
    "tool", ["ruff check", "ruff format --check", "mypy", "lint-imports", "sphinx-build -q -W", "pytest"]
)
def test_make_test_runs_everything_and_ends_with_pytest(tool):
    plan = planned("test")
    assert any(f"/{tool}" in line or f"-m {tool}" in line for line in plan)
    assert "-m pytest" in plan[-1]


def test_the_files_that_it_points_to_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (ROOT / target).exists(), target
    assert Path(ROOT / "LICENSE").read_text().startswith("MIT")
