import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.config.convert import Text
from netapp.config.overlay import Overlay, lay_nested, lay_sets


def lay(environ=(), sets=(), tree=None):
    overlay = Overlay(tree or {})
    lay_nested(overlay, dict(environ))
    lay_sets(overlay, sets)
    return overlay


def test_a_setting_goes_to_its_key():
    overlay = lay(sets=["a.b.c=1", " x = y=z ", "a.'d.e'.\"f\"="])
    assert overlay.tree == {"a": {"b": {"c": "1"}, "d.e": {"f": ""}}, "x": " y=z "}
    assert isinstance(overlay.tree["x"], Text)
    assert overlay.problems == []


def test_the_last_setting_of_a_key_wins():
    assert lay(sets=["a=1", "a=2"]).tree == {"a": "2"}


def test_a_setting_goes_into_a_table_that_an_earlier_one_wrote_as_toml():
    assert lay(sets=["a={b = 1, c = 2}", "a.b=3"]).tree == {"a": {"b": "3", "c": 2}}


def test_what_is_no_table_gives_way_to_one():
    assert lay(sets=["a=1", "a.b=2"]).tree == {"a": {"b": "2"}}


@pytest.mark.parametrize("setting", ["", "a", "=1", "a..b=1", ".a=1", "a b=1", "a.'b=1", ".".join("a" * 33) + "=1"])
def test_a_setting_that_is_none_is_a_problem(setting):
    (problem,) = lay(sets=[setting]).problems
    assert str(problem).startswith("configuration: expected KEY=VALUE such as 'admin.metrics=false', found ")
    assert problem.origin == "--set"


def test_nested_names_are_keys_whatever_their_case():
    overlay = lay(
        {"NETAPP__Listeners__web__WRITE_TIMEOUT": "5s", "netapp__admin": "{}", "NETAPP_PORT": "1", "PATH": "x"}
    )
    assert overlay.tree == {"listeners": {"web": {"write_timeout": "5s"}}, "admin": "{}"}


def test_nested_names_find_keys_that_are_there_whatever_their_case_and_hyphens():
    overlay = lay({"NETAPP__LISTENERS__MY_API__KIND": "http"}, tree={"listeners": {"My-API": {"kind": "echo"}}})
    assert overlay.tree == {"listeners": {"My-API": {"kind": "http"}}}


def test_nested_names_of_outer_tables_come_first():
    environ = {"NETAPP__A__B": "{c = 1, d = 2}", "NETAPP__A__B__C": "3", "NETAPP__A": "{x = 5}"}
    assert lay(environ).tree == {"a": {"x": 5, "b": {"c": "3", "d": 2}}}


@pytest.mark.parametrize("name", ["NETAPP__", "NETAPP__A____B", "NETAPP____A", "NETAPP__A__", "NETAPP" + "__A" * 33])
def test_a_nested_name_with_an_empty_part_is_a_problem(name):
    (problem,) = lay({name: "1"}).problems
    assert str(problem).startswith("configuration: expected a name such as NETAPP__ADMIN__METRICS, found 'NETAPP__")


def test_the_command_line_wins_over_the_environment():
    assert lay({"NETAPP__A": "1"}, ["a=2"]).tree == {"a": "2"}


def test_it_is_remembered_who_set_what():
    overlay = lay({"NETAPP__A__B": "1"}, ["a.c.d=2"])
    assert overlay.origin(("a", "b")) == "NETAPP__A__B"
    assert overlay.origin(("a", "b", "inner")) == "NETAPP__A__B"
    assert overlay.origin(("a", "c")) == "--set"
    assert overlay.origin(("a",)) == "NETAPP__A__B, --set"
    assert overlay.origin(("other",)) == overlay.origin(()) == ""


def test_kinds_of_listeners_are_known_however_they_were_written():
    overlay = lay(sets=["listeners.a={kind = 'http'}", "listeners.b.kind=echo", "listeners.c=5"])
    assert overlay.listeners() == {"a": "http", "b": "echo", "c": None}
    assert lay(sets=["listeners=5"]).listeners() == {}


@given(st.lists(st.text(max_size=10) | st.text(alphabet="ab.=\"'{}[] ", max_size=15), max_size=4))
def test_any_settings_are_laid_over_or_are_problems(sets):
    overlay = lay(sets=sets)
    assert bool(overlay.tree) or len(overlay.problems) == len(sets)
