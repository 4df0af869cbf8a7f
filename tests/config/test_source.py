import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netapp.config.source import read_document
from netapp.errors import ConfigError


def problem_of(path):
    with pytest.raises(ConfigError) as caught:
        read_document(str(path))
    (problem,) = caught.value.problems
    return problem.removeprefix(str(path))


def read_or_refuse(path):
    try:
        return read_document(str(path))
    except ConfigError as error:
        return error.problems


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", "[server]\nname = 'x'"),
        ("a.TOML", "\ufeff[server]\r\nname = 'x'"),
        ("a.json", '{"server": {"name": "x"}}'),
        ("a.conf", "[server]\nname = 'x'"),
        ("a", ' \n{"server": {"name": "x"}}'),
    ],
)
def test_the_suffix_says_what_a_file_is_and_its_first_character_where_there_is_none(write, name, content):
    assert read_document(str(write(name, content))) == {"server": {"name": "x"}}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.toml", "[server]\nname = \n", ":2:8: not TOML: Invalid value"),
        ("a.toml", "a = 1\na = 2\n", ":2:6: not TOML: Cannot overwrite a value"),
        ("a.toml", "a = 1\n\n[", ":3:2: not TOML: "),
        ("a.toml", "a = [1,", ":1:8: not TOML: "),
        ("a.toml", "a = " + "9" * 5000, ": not TOML: "),
        ("a.json", '{\n  "a": 1,\n  b}', ":3:3: not JSON: Expecting property name"),
        ("a.json", "", ":1:1: not JSON: Expecting value"),
        ("a.json", '{"a": {"b": 1, "c": 2, "b": 3}}', ": not JSON: the key 'b' is there twice"),
        ("a.json", '{"a": NaN}', ": not JSON: NaN is no JSON number"),
        ("a.json", '{"a": ' + "9" * 5000 + "}", ": not JSON: "),
        ("a.json", "[1]", ": expected a JSON object, found list"),
        ("a.toml", b"a = 1\nb = '\xff'", ":2:6: expected UTF-8 text, found b'\\xff'"),
        ("a.yaml", "a: 1", ": expected a TOML or JSON file, found one called YAML"),
        ("a.ini", "[a]", ": expected a TOML or JSON file, found one called INI"),
        ("a.json", '{"a": ' + "[" * 40 + "]" * 40 + "}", ": expected at most 32 levels of tables and arrays"),
        ("a.json", '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", ": expected at most 32 levels of tables and arrays"),
        ("a.toml", "a = " + "[" * 40 + "]" * 40, ": expected at most 32 levels of tables and arrays"),
        ("a.toml", "a = " + "[" * 20_000, ": expected at most 32 levels of tables and arrays"),
        ("a.toml", b"#" * (4 * 1024 * 1024 + 1), ": expected a configuration, found a file of more than 4194304 bytes"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_told_with_line_and_column(write, name, content, problem):
    assert problem_of(write(name, content)).startswith(problem)


def test_a_missing_file_is_a_problem(tmp_path):
    assert problem_of(tmp_path / "a.toml") == ": cannot be read: No such file or directory"


def test_a_folder_is_a_problem(tmp_path):
    assert problem_of(tmp_path) == ": cannot be read: Is a directory"


def test_a_name_that_no_file_can_have_is_a_problem():
    assert problem_of("a\0b").startswith("'a\\x00b': expected the name of a file")


@settings(max_examples=40)
@given(st.text() | st.text(alphabet="{}[]=\"'\\,:.#\n ae1-_"))
def test_any_text_is_a_document_or_a_config_error(tmp_path_factory, text):
    for suffix in (".toml", ".json", ""):
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert read_or_refuse(path) is not None


@given(st.binary(max_size=40))
def test_any_bytes_are_a_document_or_a_config_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(data)
    assert read_or_refuse(path) is not None


def test_toml_and_json_of_the_same_content_are_the_same(write):
    toml = read_document(str(write("a.toml", "[listeners.web.tls]\nalpn = ['http/1.1']\n[admin]\nenabled = false")))
    assert read_document(str(write("a.json", json.dumps(toml)))) == toml
