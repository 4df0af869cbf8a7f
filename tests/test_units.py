import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert

from netapp.units import (
    Cidr,
    Duration,
    Size,
    format_duration,
    format_size,
    parse_cidr,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("1d", 86400),
        ("1.5 m", 90),
        (" 10 ", 10),
        ("0", 0),
    ],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1S", "1 hour", "1m30s", ".5s", "1e3", "٣s", "9" * 40, "nan", "inf"])
def test_text_that_is_no_duration_is_an_error(text):
    with pytest.raises(ValueError, match="duration such as '250ms'"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("1MiB", 1048576),
        ("2gib", 2 * 1024**3),
        ("10MB", 10_000_000),
        ("1.5KiB", 1536),
        ("512 B", 512),
        ("9007199254740993", 2**53 + 1),
    ],
)
def test_a_size_is_read_in_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1.5", "0.1KiB", "1 kilobyte", "1Ki", "٣", "9" * 40])
def test_text_that_is_no_whole_number_of_bytes_is_an_error(text):
    with pytest.raises(ValueError, match="size such as '64KiB'"):
        parse_size(text)


def test_a_bare_address_is_a_network_of_one():
    assert parse_cidr("192.0.2.7").num_addresses == 1
    assert str(parse_cidr(" 2001:db8::/32 ")) == "2001:db8::/32"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "", "fe80::%eth0/64"])
def test_a_network_that_readers_could_take_for_another_is_an_error(text):
    with pytest.raises(ValueError, match="expected a network"):
        parse_cidr(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1, "1s"), (1.5, "1.5s"), (75, "75s"), (300, "5m"), (7200, "2h"), (86400, "1d")],
)
def test_a_duration_is_written_in_the_largest_unit_without_a_fraction(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0"), (240, "240"), (8192, "8KiB"), (1024**2, "1MiB"), (3 * 1024**3, "3GiB")]
)
def test_a_size_is_written_in_the_largest_binary_unit_without_a_fraction(size, text):
    assert format_size(size) == text


@given(st.integers(0, 10**15).map(lambda microseconds: microseconds / 1e6))
def test_a_written_duration_reads_back_as_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9)


@given(st.integers(0, 2**62))
def test_a_written_size_reads_back_as_the_same(size):
    assert parse_size(format_size(size)) == size


def refusal(parse, text):
    """Return what the ValueError says; empty where there is none."""
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return ""


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9.]{1,25} ?[a-zA-Z]{0,3}\Z"))
def test_text_is_a_quantity_or_a_value_error(text):
    for parse in (parse_duration, parse_size, parse_cidr):
        assert refusal(parse, text)[:8] in {"", "expected"}


@given(
    annotated=st.sampled_from([Duration, Size]),
    text=st.from_regex(r"\A[0-9.]{1,25} ?(ms|[smhd]|[kKmMgG]?[iI]?[bB])?\Z"),
)
def test_the_schema_pattern_accepts_what_the_parser_reads(annotated, text):
    """But for white space around it, and for fractions of a byte, which no pattern can tell."""
    meta = annotated.__metadata__[0]
    parse = {"duration": parse_duration, "size": parse_size}[meta.extra["unit"]]
    is_read = not refusal(parse, text)
    is_matched = re.search(meta.extra_json_schema["pattern"], text) is not None
    assert is_read == is_matched or (is_matched and "." in text and annotated is Size)


def test_the_annotated_types_hold_plain_values():
    assert convert(1, Duration) == 1.0
    assert convert(1, Size) == 1
    assert convert("::1", Cidr) == "::1"
