"""Header fields: an ordered, case-insensitive multimap that cannot be used to split a response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.http import Headers

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
names = st.text(TOKEN, min_size=1, max_size=12)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)


def test_a_name_is_found_in_any_case():
    headers = Headers({"Content-Type": "text/plain"})
    assert headers.get("CONTENT-TYPE") == "text/plain"
    assert "content-type" in headers
    assert headers.raw == [(b"content-type", b"text/plain")]


def test_the_order_and_the_repetitions_are_kept():
    headers = Headers([("Set-Cookie", "a=1"), ("X-Other", "2"), ("set-cookie", "b=3")])
    assert headers.get_all("Set-Cookie") == ["a=1", "b=3"]
    assert list(headers) == [("set-cookie", "a=1"), ("x-other", "2"), ("set-cookie", "b=3")]
    assert len(headers) == 3


def test_get_gives_the_first_value_or_the_default():
    headers = Headers([("A", "1"), ("A", "2")])
    assert headers.get("a") == "1"
    assert headers.get("b") is None
    assert headers.get("b", "none") == "none"


def test_set_replaces_all_of_that_name():
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    headers.set("A", "4")
    assert list(headers) == [("b", "2"), ("a", "4")]


def test_remove_drops_all_of_that_name():
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    headers.remove("A")
    headers.remove("missing")
    assert list(headers) == [("b", "2")]


def test_tokens_are_the_members_of_all_fields_of_a_list():
    headers = Headers([("Connection", "Keep-Alive, ,Upgrade"), ("Connection", "X-Foo ")])
    assert headers.tokens("connection") == ["keep-alive", "upgrade", "x-foo"]


def test_a_copy_is_independent():
    headers = Headers({"A": "1"})
    twin = headers.copy()
    twin.add("B", "2")
    assert headers == Headers({"A": "1"})
    assert headers != twin
    assert headers != [("a", "1")]


def test_raw_pairs_are_taken_as_they_are():
    raw = [(b"a", b"1")]
    assert Headers.from_raw(raw).raw is raw


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\r\nb", "a\x00", "(a)", "\u017f", "\u212a"])
def test_what_is_no_token_is_no_name(name):
    with pytest.raises(ValueError, match="not a header field name"):
        Headers({name: "x"})


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\x00b", "\x7f", "\x0b", "\x1b[31m", "\r\n"])
@pytest.mark.parametrize("method", ["add", "set"])
def test_a_value_cannot_hold_control_characters(method, value):
    headers = Headers()
    with pytest.raises(ValueError, match="control characters"):
        getattr(headers, method)("a", value)
    assert len(headers) == 0


def test_a_value_beyond_latin_1_is_refused():
    with pytest.raises(ValueError, match="Latin-1"):
        Headers({"a": "€"})


def test_it_shows_its_fields_and_cannot_be_hashed():
    assert repr(Headers({"A": "1"})) == "Headers([('a', '1')])"
    with pytest.raises(TypeError):
        hash(Headers())


@given(st.lists(st.tuples(names, values)))
def test_what_was_accepted_comes_back_without_outer_white_space(fields):
    headers = Headers(fields)
    assert list(headers) == [(name.lower(), value.strip(" ")) for name, value in fields]


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_text_whatever_puts_a_line_break_on_the_wire(name, value):
    headers = Headers()
    try:
        headers.add(name, value)
    except ValueError:
        assert headers.raw == []
        return
    wire = b"%b: %b" % headers.raw[0]
    assert not set(wire) & {0x00, 0x0A, 0x0D}
    assert wire.split(b": ", 1)[0] == name.lower().encode()
