"""What the documentation says is held against the code: programs are run, tables are compared, names are looked up."""

import ast
import contextlib
import importlib.util
import io
import re
import shutil
import tomllib
from http import HTTPStatus

import pytest
import pytest_twisted
from twisted.internet import reactor, task

from netapp.admin.exposition import render
from netapp.app import compose
from netapp.config import load_config, parse_config
from netapp.config.describe import describe
from netapp.logs import build_observer
from tests.support.certificates import certificates
from tests.support.pages import ROOT, blocks, looks_like

DOCS = ROOT / "docs"
NETAPP = ROOT / "netapp"


# Programs


def programs(page):
    """Pair each program of a page with the output that is shown below it; the first ones may have none."""
    found = list(blocks(page))
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language == "python":
            expected = following.text if following is not None and following.language == "text" else ""
            yield pytest.param(block.text, expected, id=block.place)


SERVE, *PROGRAMS = programs(DOCS / "how-to" / "library.md")


class Lent:
    """The reactor as a program sees it; what the program has left open is closed afterwards."""

    def __init__(self):
        self.ports = []

    def __getattr__(self, name):
        return getattr(reactor, name)

    def listenTCP(self, *arguments, **options):
        port = reactor.listenTCP(*arguments, **options)
        self.ports.append(port)
        return port


@pytest.mark.parametrize(("source", "expected"), PROGRAMS)
@pytest_twisted.ensureDeferred
async def test_a_program_of_the_library_page_prints_what_is_shown(source, expected, monkeypatch, tmp_path):
    issued = certificates().server("site.example")
    shutil.copy(issued.certificate, tmp_path / "site.crt")
    shutil.copy(issued.key, tmp_path / "site.key")
    monkeypatch.chdir(tmp_path)
    mains = []
    monkeypatch.setattr(task, "react", mains.append)
    lent = Lent()
    namespace = {"__name__": "program"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(SERVE.values[0], "serve", "exec"), namespace)
        exec(compile(source, "program", "exec"), namespace)
        for main in mains:
            await main(lent)
    for port in lent.ports:
        await port.stopListening()
    assert expected
    assert looks_like(expected, printed.getvalue()), printed.getvalue()


# Tables


def tables(page):
    """Every row of every table of a page, as its cells, heads included."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("|") and not set(line.strip()) <= set("|- "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def coded(text):
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)


def application():
    """One with every kind of listener, TLS and detection; nothing is bound."""
    issued = certificates().server("a.example")
    files = {"certificate": str(issued.certificate), "key": str(issued.key)}
    return compose(
        parse_config(
            {
                "listeners": {
                    "web": {"kind": "http", "endpoint": "tcp:0", "tls": files},
                    "calculator": {"kind": "calculator", "endpoint": "tcp:0"},
                    "echo": {"kind": "echo", "endpoint": "tcp:0"},
                    "port": {"kind": "detect", "endpoint": "tcp:0", "detect": {"protocols": {"http1": "web"}}},
                }
            }
        ),
        reactor,
    )


def test_the_metrics_page_lists_what_an_application_registers_with_its_type_and_labels():
    service = application()
    build_observer(clock=reactor, metrics=service.registry)
    render(service.registry)
    registered = {(family.name, family.kind, family.labels) for family in service.registry}
    rows = [row for row in tables(DOCS / "reference" / "metrics.md") if row[0] != "name"]
    listed = [(coded(row[0])[0], row[1], tuple(coded(row[2]))) for row in rows]
    assert set(listed) == registered
    assert len(listed) == len(registered)


def statuses(tree):
    """The statuses that a module's code mentions: ``HttpError(404)``, ``HTTPStatus.NOT_FOUND``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "HTTPStatus":
            if hasattr(HTTPStatus, node.attr) and node.attr.isupper():
                yield HTTPStatus[node.attr]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HttpError":
            yield from (HTTPStatus(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def test_the_page_of_statuses_has_each_that_netapp_answers_with_and_no_other():
    used = {status for path in NETAPP.rglob("*.py") for status in statuses(ast.parse(path.read_text()))}
    listed = {int(row[0][:3]) for row in tables(DOCS / "reference" / "http.md") if re.match(r"\d{3} ", row[0])}
    assert listed == used - {HTTPStatus.OK}


# The example of a configuration


EXAMPLE = ROOT / "examples" / "netapp.toml"
SHOWN = {"trusted", "certificate", "key", "directory", "client_ca", "client_auth", "protocols", "fallback", "options"}
"""Keys of tables that are switched off, which show an example instead of their default."""


def uncommented():
    """The example with every line switched on."""
    return tomllib.loads(re.sub(r"^#(?=[a-z_]+ = |\[)", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE))


def at(document, path):
    """The tables at a path, of every listener where it says NAME."""
    found = [document]
    for part in path.split(".") if path else []:
        found = [inner for table in found for inner in (table.values() if part == "NAME" else [table.get(part, {})])]
    return found


def test_the_example_as_it_stands_is_what_holds_without_a_file():
    assert load_config(str(EXAMPLE), [], {}) == load_config(None, [], {})


def test_the_example_with_everything_switched_on_is_valid():
    assert set(parse_config(uncommented()).listeners) == {"web", "calculator", "echo", "port", "mine"}


@pytest.mark.parametrize("table", describe(), ids=lambda table: table.path or "top")
def test_the_example_has_every_key_with_its_default(table):
    given = {key: value for inner in at(uncommented(), table.path) for key, value in inner.items()}
    for row in table.rows:
        assert row.key in given, f"{row.key} is missing"
        if row.default and row.key not in SHOWN:
            assert given[row.key] == tomllib.loads(f"value = {row.default}")["value"], row.key


# Dependencies and layers


IMPORTED_AS = {
    "protobuf": "google",
    "pyOpenSSL": "OpenSSL",
    "zope.interface": "zope",
    "prometheus-client": "prometheus_client",
}


def importers(package):
    """The modules of netapp that import a package, as paths below netapp."""
    for path in sorted(NETAPP.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == package for name in names):
                yield str(path.relative_to(NETAPP))


def requirements():
    """What setup.py says that netapp needs, without versions and extras."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    [required] = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "install_requires"
    ]
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in ast.literal_eval(required)}


def test_the_page_of_dependencies_has_each_that_is_required_and_no_other():
    assert {row[0] for row in tables(DOCS / "dependencies.md")} - {"package"} == requirements()


@pytest.mark.parametrize(
    "row", [row for row in tables(DOCS / "dependencies.md") if coded(row[1])], ids=lambda row: row[0]
)
def test_a_dependency_is_imported_where_its_row_says_and_nowhere_else(row):
    package, places = row[0], coded(row[1])
    found = list(importers(IMPORTED_AS.get(package, package)))
    assert all(any(module.startswith(place) for place in places) for module in found), found
    assert all(any(module.startswith(place) for module in found) for place in places), found


def test_the_page_of_the_command_line_has_every_command():
    spec = importlib.util.spec_from_file_location("command_reference", DOCS / "_ext" / "command_reference.py")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    described = {parser.prog: extension.help_of(parser) for parser in extension.parsers()}
    assert {"netapp", "netapp run", "netapp check", "netapp schema", "netapp call add", "netapp status"} <= set(
        described
    )
    assert all(text.startswith(f"usage: {name} ") for name, text in described.items())
    assert "{command-reference}" in (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")


def test_the_layers_on_the_page_of_the_architecture_are_those_that_are_enforced():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [layers] = [contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"]
    [shown] = [block for block in blocks(DOCS / "architecture.md") if block.language == "text"]
    assert shown.lines == layers


# Defences


DEFENCES = [row for row in tables(DOCS / "defences.md") if row[0] != "against"]
NO_LIMITS = {
    *("tls.certificate", "tls.key", "tls.directory", "tls.client_ca"),
    *("detect.protocols", "detect.fallback", "http.access_log", "websocket.subprotocols", "calculator.framing"),
}
"""Settings of the tables below that limit nothing."""
LIMITED = ("admission", "proxy_protocol", "tls", "detect", "http", "websocket", "calculator")


def settings():
    """Every setting as the page writes it, with its default as a file writes it."""
    for table in describe():
        path = re.sub(r"^listeners\.NAME\.?", "", table.path)
        yield from ((f"{path}.{row.key}".lstrip("."), row.default) for row in table.rows)


def test_every_limit_of_a_listener_is_on_the_page_of_defences():
    listed = {coded(row[1])[0] for row in DEFENCES if row[1]}
    limits = {name for name, _ in settings() if name.startswith(LIMITED)} - NO_LIMITS
    assert limits <= listed, limits - listed


@pytest.mark.parametrize("row", [row for row in DEFENCES if row[1]], ids=lambda row: row[1].strip("`"))
def test_a_default_is_the_one_that_the_page_tells(row):
    [setting] = coded(row[1])
    default = dict(settings())[setting]
    assert coded(row[2]) in ([default], [])
    assert default or not row[2]


@pytest.mark.parametrize("row", DEFENCES, ids=lambda row: row[0] or row[1])
def test_a_defence_has_tests_and_they_are_there(row):
    names = coded(row[5])
    assert names
    for name in names:
        file, _, test = name.partition("::")
        assert re.search(
            rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE
        ), name
