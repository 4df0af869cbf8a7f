"""What is shipped: a wheel is built, put into an environment of its own, and served from elsewhere."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.pages import ROOT
from tests.support.processes import FREE, Server

LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "_build", "results", "dropin.cache"
)
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; sys.exit(run())"


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, which is left as it is."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT)
    shutil.copytree(ROOT / ".ci", source / ".ci")
    return source


@pytest.fixture(scope="module")
def built(source):
    """The folder with the source distribution and the wheel that is made of it."""
    dist = source.with_name("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(source), cwd=source.parent)
    return dist


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """The interpreter of a clean environment with the wheel in it. What netapp depends on is lent to it."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(environment), cwd=environment)
    interpreter = environment / "bin" / "python"
    [wheel] = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", f"--python={interpreter}", "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, "--disable-pip-version-check", str(wheel), cwd=environment)
    [own] = environment.glob("lib/python*/site-packages")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "lent.pth").write_text("\n".join(lent))  # no .pth there is read, so that of an editable netapp neither
    return interpreter


def test_the_wheel_has_the_package_the_plugin_and_nothing_else(source, built):
    [wheel] = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"netapp", "twisted"}
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/netapp_plugin.py"}
    assert {"netapp/py.typed", "netapp/protocols/calculator.proto", "netapp/protocols/calculator_pb2.pyi"} <= names
    modules = {str(path.relative_to(source)) for path in (source / "netapp").rglob("*.py")}
    assert {name for name in names if name.startswith("netapp/") and name.endswith(".py")} == modules


def test_the_source_distribution_has_what_tests_and_documentation_need(source, built):
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"Makefile", "pyproject.toml", "tox.ini", "README.md", "CHANGELOG.md", "LICENSE", ".ci/run"} <= names
    for folder in ("tests", "docs", "examples", "bench", "newsfragments"):
        assert {str(path.relative_to(source)) for path in (source / folder).rglob("*.*")} <= names
    assert not [name for name in names if "__pycache__" in name or "cache/" in name]


def test_the_environment_has_netapp_from_the_wheel_and_not_from_here(python, tmp_path):
    where = Path(run(str(python), "-c", "import netapp; print(netapp.__file__)", cwd=tmp_path).strip())
    assert python.parents[1] in where.parents
    assert ROOT not in where.parents


def test_twistd_serves_it_from_another_folder_and_stops_in_order(python, tmp_path):
    quick = "--set=server.drain_delay=0"
    twistd = {"command": [str(python), "-c", TWISTD], "cwd": tmp_path}
    with Server("-n", "--pidfile=", "netapp", *FREE, quick, **twistd) as server:
        assert server.get("/hello", "web") == (200, b"Hello, World!")
        if shutil.which("curl"):
            url = f"http://127.0.0.1:{server.ports['web']}/echo"
            assert run("curl", "--silent", "--data", "some text", url, cwd=tmp_path) == "some text"
        assert server.stop() == 0
    assert not list(tmp_path.iterdir())


def test_the_command_is_installed_and_knows_its_version(python, tmp_path):
    assert run(str(python.parent / "netapp"), "--version", cwd=tmp_path).startswith("netapp ")
    assert "is valid" in run(str(python.parent / "netapp"), "check", cwd=tmp_path)
