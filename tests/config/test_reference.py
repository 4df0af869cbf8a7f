"""The page of the configuration reference, as the documentation's build fills it."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from netapp.config import load_config
from netapp.config.describe import describe
from netapp.config.plain import PLAIN_NAMES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "configuration.md"


@pytest.fixture(scope="module")
def extension():
    spec = importlib.util.spec_from_file_location("config_reference", DOCS / "_ext" / "config_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(extension):
    return extension.fill(PAGE.read_text(encoding="utf-8"))


def test_no_mark_is_left(page):
    assert "<!-- generated" not in page


def test_every_table_and_every_plain_name_is_on_the_page(page):
    assert all(f"### `[{table.path}]`" in page for table in describe() if table.path and table.rows)
    assert all(f"| `{plain.name}` | " in page for plain in PLAIN_NAMES)


def test_the_default_listeners_are_on_the_page(page):
    for name, listener in load_config(None, [], {}).listeners.items():
        assert f"| `listeners.{name}` | `{listener.kind}` | `{listener.endpoint}` |" in page


def test_a_mark_that_stands_for_nothing_fails_the_build(extension):
    with pytest.raises(KeyError):
        extension.fill("<!-- generated: something else -->")


def test_sphinx_reads_the_filled_page_and_knows_what_it_depends_on(extension):
    handlers, dependencies = {}, []
    env = SimpleNamespace(note_dependency=lambda source, docname: dependencies.append((docname, Path(source).name)))
    app = SimpleNamespace(connect=handlers.__setitem__, env=env)
    assert extension.setup(app)["parallel_read_safe"]
    content = ["<!-- generated: plain names -->"]
    handlers["source-read"](app, "reference/configuration", content)
    assert "| `NETAPP_PORT` | the port in `listeners.web.endpoint` |" in content[0]
    assert ("reference/configuration", "schema.py") in dependencies


def test_other_pages_are_left_alone(extension):
    handlers, content = {}, ["# Tutorial"]
    extension.setup(SimpleNamespace(connect=handlers.__setitem__))
    handlers["source-read"](SimpleNamespace(), "tutorial", content)
    assert content == ["# Tutorial"]


def test_the_examples_of_the_page_mean_what_it_says():
    environ = {"NETAPP__LISTENERS__WEB__WRITE_TIMEOUT": "5s"}
    sets = ['logging.levels."netapp.connection"=debug', "listeners.web.endpoint=tcp:80"]
    config = load_config(None, sets, environ)
    assert config.listeners["web"].write_timeout == 5.0
    assert config.listeners["web"].endpoint == "tcp:80"
    assert config.logging.levels == {"netapp.connection": "debug"}
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"{name}={value}" in text for name, value in environ.items())
    assert all(setting in text for setting in sets)
