import inspect

import pytest
from msgspec import Struct

from netapp.config import Config
from netapp.config.describe import describe, field_docs, render_markdown, struct_classes
from netapp.config.schema import ListenerConfig
from netapp.listeners.detect import DetectPolicy


def rows():
    return {f"{table.path}.{row.key}".removeprefix("."): row for table in describe() for row in table.rows}


def test_every_key_has_its_type_default_and_text():
    row = rows()["listeners.NAME.write_timeout"]
    assert row.type == "a duration such as '250ms', '30s' or '5m'"
    assert row.default == '"1m"'
    assert row.doc.startswith("How long a peer may take nothing")


def test_required_keys_have_no_default():
    assert rows()["listeners.NAME.kind"].default == ""


def test_optional_tables_are_marked():
    marked = {table.path for table in describe() if table.is_optional}
    assert {"listeners.NAME.tls", "listeners.NAME.proxy_protocol", "listeners.NAME.detect"} <= marked
    assert "listeners.NAME.admission" not in marked


@pytest.mark.parametrize("cls", list(dict.fromkeys(struct_classes(Config))), ids=lambda cls: cls.__name__)
def test_no_field_is_without_a_text(cls):
    """A field that leads to a table may be: the table has its own."""
    missing = set(cls.__struct_fields__) - set(field_docs(cls))
    tables = {table.path.split(".")[-1] for table in describe()}
    assert missing <= tables
    assert cls.__doc__


def test_texts_are_inherited():
    class Extended(DetectPolicy, frozen=True, kw_only=True):
        mine: int = 0
        """Mine."""

    assert {"timeout", "mine"} <= set(field_docs(Extended))


def test_without_source_there_are_no_texts():
    namespace = {"Struct": Struct, "__name__": "nowhere"}
    exec("class Made(Struct):\n    x: int = 0\n    '''Text.'''", namespace)
    assert field_docs(namespace["Made"]) == {}


def test_the_reference_has_a_section_for_each_table_and_a_line_for_each_key():
    text = render_markdown()
    for table in describe():
        assert not table.path or f"### `[{table.path}]`\n" in text
    assert "- `max_connections`: an integer" in text
    assert (
        "- `kind`: text (one of calculator, detect, echo, http, or a factory as `package.module:Factory`); required."
        in text
    )
    assert inspect.cleandoc(ListenerConfig.__doc__) in text
