from datetime import UTC, date, datetime

import pytest

from netapp.config.problem import Problem, in_order, show_path, show_value, suggest


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("listeners", "web", "tls"), "listeners.web.tls"),
        (("admission", "allow", 2), "admission.allow[2]"),
        (("logging", "levels", "netapp.http"), "logging.levels.'netapp.http'"),
        (("a\x1b[31m",), r"'a\x1b[31m'"),
        ((), "configuration"),
    ],
)
def test_a_path_is_written_as_its_keys_stand_in_toml(path, text):
    assert show_path(path) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "'abc'"),
        ("\x1b[2J\udcff", r"'\x1b[2J\udcff'"),
        (True, "true"),
        (-4, "-4"),
        (1.5, "1.5"),
        (2**63, "an integer of more than 64 bits"),
        (None, "null"),
        ({"a": 1}, "a table"),
        ([1], "an array"),
        (date(2026, 1, 2), "the date 2026-01-02"),
        (datetime(2026, 1, 2, tzinfo=UTC), "the date 2026-01-02T00:00:00+00:00"),
    ],
)
def test_what_was_found_is_described_safely_for_a_terminal(value, text):
    assert show_value(value) == text


def test_what_was_found_is_cut_to_a_readable_length():
    assert show_value("x" * 1000) == "'" + "x" * 59 + "…'"


def test_a_problem_names_the_source_that_is_not_the_file():
    assert str(Problem(("a",), "is wrong")) == "a: is wrong"
    assert str(Problem(("a",), "is wrong", "--set")) == "a: is wrong (from --set)"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("max-Connections", "did you mean 'max_connections'?"),
        ("max_conections", "did you mean 'max_connections'?"),
        ("zzz", "known are backlog, max_connections"),
    ],
)
def test_the_nearest_known_key_is_suggested(key, text):
    assert suggest(key, ["max_connections", "backlog"]) == text


def test_nothing_is_suggested_where_nothing_is_known():
    assert suggest("x", []) == ""


def test_problems_are_sorted_by_path_and_told_once():
    texts = [("b",), ("a", 10), ("a", 9), ("a",), ("a", "x"), ("a", 9)]
    problems = in_order([Problem(path, "is wrong") for path in texts])
    assert [show_path(problem.path) for problem in problems] == ["a", "a.x", "a[9]", "a[10]", "b"]


def test_a_number_too_long_to_be_written_is_described_all_the_same():
    """Python refuses to write integers of more than 4300 digits."""
    assert show_value(16**5000) == "an integer of more than 64 bits"
