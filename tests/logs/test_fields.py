"""What of an event is written: no secret, no control character, and nothing that JSON cannot hold."""

import enum
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.python.failure import Failure

from netapp.logs import fields
from netapp.peer import Peer


class TestRedacted:
    @pytest.mark.parametrize(
        "name",
        [
            *("password", "token", "secret", "authorization", "cookie", "Set-Cookie", "api_token", "client_secret"),
            *("Proxy-Authorization", "PASSWORD", "cookies", "apiKey", "x-api-key", "db_passwd"),
        ],
    )
    def test_a_field_named_like_a_secret_is_hidden(self, name):
        assert fields.redacted({name: "hush"}) == {name: "***"}

    @pytest.mark.parametrize(
        "name", ["tokens_left", "token_count", "secretary", "keyboard", "key", "peer", "bypassword_x"]
    )
    def test_a_field_that_only_speaks_of_one_is_not(self, name):
        assert fields.redacted({name: "loud"}) == {name: "loud"}

    def test_it_is_hidden_in_the_message_too(self):
        event = fields.redacted(
            {
                "log_format": "logged in with {token} {auth[password]}",
                "token": "hush",
                "auth": {"password": "hush", "user": "ann"},
            }
        )
        assert fields.message_of(event) == "logged in with *** ***"

    @pytest.mark.parametrize(
        ("value", "clean"),
        [
            ({"user": "ann", "token": "hush"}, {"user": "ann", "token": "***"}),
            ([("Cookie", "hush"), ("Accept", "*/*")], [("Cookie", "***"), ("Accept", "*/*")]),
            ([(b"authorization", b"hush")], [(b"authorization", "***")]),
            (({"token": "hush"},), ({"token": "***"},)),
            ({"headers": [("cookie", ["hush"])]}, {"headers": [("cookie", "***")]}),
            ([["token", "hush"], ("n", {"secret": 1})], [["token", "hush"], ("n", {"secret": "***"})]),
        ],
    )
    def test_it_is_hidden_within_dicts_lists_and_header_pairs(self, value, clean):
        assert fields.redacted({"request": value}) == {"request": clean}

    def test_the_event_itself_is_left_to_other_observers(self):
        event = {"token": "hush", "headers": {"cookie": "hush"}, "log_format": "x"}
        fields.redacted(event)
        assert event == {"token": "hush", "headers": {"cookie": "hush"}, "log_format": "x"}

    def test_what_was_formatted_before_is_formatted_again(self):
        event = {"log_format": "{token}", "token": "hush", "log_flattened": {"token!:": "hush", "token!s:": "hush"}}
        assert fields.message_of(fields.redacted(event)) == "***"

    def test_a_list_that_contains_itself_comes_to_an_end(self):
        endless = []
        endless.append(endless)
        assert fields.redacted({"endless": endless})


class TestEscaped:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain", "plain"),
            ("Grüße, 世界", "Grüße, 世界"),
            ("a\nb\r\n", "a\\nb\\r\\n"),
            ("\x1b[31m", "\\x1b[31m"),
            ("\x85\u2028\u2029", "\\x85\\u2028\\u2029"),
            ("\u202eevil", "\\u202eevil"),
            ("\udcff\x00", "\\udcff\\x00"),
        ],
    )
    def test_what_moves_a_cursor_or_ends_a_line_becomes_visible(self, text, shown):
        assert fields.escaped(text) == shown

    @given(st.text())
    def test_the_result_is_printable_and_one_line_whatever_comes(self, text):
        shown = fields.escaped(text)
        assert shown.isprintable()
        assert len(shown.splitlines()) <= 1


class Colour(enum.Enum):
    RED = "red"


class Odd(int):
    pass


class Mute:
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (Odd(3), 3),
        (2**70, str(2**70)),
        (0.5, 0.5),
        (b"ok\xff", "ok\\xff"),
        ("raw\udcff", "raw\\udcff"),
        (("a", b"b"), ["a", "b"]),
        ({1: {2: b"x"}}, {"1": {"2": "x"}}),
        (frozenset({1}), [1]),
        (Colour.RED, "Colour.RED"),
        (Peer(id="1", host="::1", port=80), "[::1]:80"),
        ("x" * 9000, "x" * 8192 + "… (808 more characters)"),
        (list(range(1000)), list(range(100))),
    ],
)
def test_anything_becomes_what_json_can_hold(value, written):
    assert json.loads(msgspec.json.encode(fields.json_safe(value))) == written


def test_an_object_without_words_is_described():
    assert "Mute" in fields.json_safe(Mute())


def test_a_dict_that_contains_itself_comes_to_an_end():
    endless = {}
    endless["again"] = endless
    assert msgspec.json.encode(fields.json_safe(endless))


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.binary(), inner, max_size=4),
    max_leaves=8,
)


@given(JSON_LIKE)
def test_json_safe_never_fails(value):
    assert msgspec.json.encode(fields.json_safe(value))


class TestFailures:
    def test_it_is_type_message_and_traceback(self):
        written = fields.json_failure(Failure(ValueError("bad\udcff")))
        assert written["type"] == "builtins.ValueError"
        assert written["message"] == "bad\\udcff"
        assert "ValueError: bad" in written["traceback"]

    def test_a_field_may_hold_one(self):
        assert fields.json_safe({"reason": Failure(OSError("gone"))})["reason"]["message"] == "gone"

    def test_an_exception_without_words_is_one_still(self):
        written = fields.json_failure(Failure(Silent()))
        assert written["type"].endswith("Silent")
        assert written["traceback"]

    def test_a_traceback_that_cannot_be_made_is_said_to_be_missing(self, monkeypatch):
        failure = Failure(ValueError())
        monkeypatch.setattr(failure, "getTraceback", lambda: 1 / 0)
        assert fields.traceback_of(failure) == "(no traceback: division by zero)"

    def test_a_traceback_is_bounded(self, monkeypatch):
        failure = Failure(ValueError())
        monkeypatch.setattr(failure, "getTraceback", lambda: "x" * 100_000)
        assert len(fields.traceback_of(failure)) < 66_000


class Silent(Exception):  # noqa: N818 - a name is all it has
    def __str__(self):
        raise RuntimeError("no words")


def test_the_logging_systems_own_fields_are_not_an_events():
    assert fields.public_fields({"log_format": "x", "log_time": 1, "time": 2, "peer": None}) == {
        "time": 2,
        "peer": None,
    }


def test_those_that_the_old_logging_adds_are_left_out_of_its_events_alone():
    event = {"log_namespace": "log_legacy", "message": ("x",), "time": 1, "system": "-", "isError": 0, "peer": "p"}
    assert fields.public_fields(event) == {"peer": "p"}


def test_an_event_without_anything_has_a_time_a_level_and_a_namespace():
    assert fields.when({}) > 1_000_000_000
    assert fields.when({"log_time": "noon"}) > 1_000_000_000
    assert (fields.level_of({}), fields.namespace_of({}), fields.message_of({})) == ("info", "-", "")
