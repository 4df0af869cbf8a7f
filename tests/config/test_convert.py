from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct, field

from netapp.config.convert import INVALID, Converter, Text, as_table, is_storable, is_too_deep
from netapp.units import Cidr, Duration, Endpoint, Secret, Size


class Mode(Enum):
    FAST = "fast"
    SAFE = "safe"


class Leaf(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    low: int = 0
    high: int = 10

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low and high contradict each other")
        if self.low < 0:
            raise ValueError("low must not be negative")


class Root(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    count: Annotated[int, Meta(ge=1)] = 1
    ratio: float = 0.5
    flag: bool = False
    wait: Duration = 1.0
    size: Size = 0
    secret: Secret = ""
    place: Endpoint = "tcp:80"
    nets: tuple[Cidr, ...] = ()
    tags: frozenset[str] = frozenset()
    pair: tuple[int, int] = (1, 2)
    level: Literal["low", "high"] = "low"
    mode: Mode = Mode.SAFE
    either: int | Literal["auto"] = 1
    leaf: Leaf = Leaf()
    maybe: Leaf | None = None
    named: dict[Annotated[str, Meta(pattern="^[a-z]+$")], Leaf] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class Strict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    needed: int
    other: Leaf = Leaf()


def problems_of(document, cls=Root):
    converter = Converter()
    converter.convert(cls, document)
    return [str(problem) for problem in converter.problems]


def read(document, cls=Root):
    converter = Converter()
    result = converter.convert(cls, document)
    assert converter.problems == []
    return result


def test_every_kind_of_value_is_built():
    assert read(
        {
            "name": "x",
            "ratio": 1,
            "wait": "250ms",
            "size": "1KiB",
            "place": "unix:/run/x",
            "nets": ["10.0.0.0/8"],
            "tags": ["a"],
            "pair": [3, 4],
            "level": "high",
            "mode": "fast",
            "either": "auto",
            "leaf": {"low": 1},
            "maybe": {"low": 2},
            "named": {"a": {"low": 3}},
            "options": {"deep": [{"a": 1.5}]},
        }
    ) == Root(
        name="x",
        ratio=1.0,
        wait=0.25,
        size=1024,
        place="unix:/run/x",
        nets=("10.0.0.0/8",),
        tags=frozenset("a"),
        pair=(3, 4),
        level="high",
        mode=Mode.FAST,
        either="auto",
        leaf=Leaf(low=1),
        maybe=Leaf(low=2),
        named={"a": Leaf(low=3)},
        options={"deep": [{"a": 1.5}]},
    )


def test_nothing_given_is_all_defaults():
    assert read({}) == Root()
    assert read({"maybe": None}) == Root()


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"name": 1}, "name: expected text, found 1"),
        ({"count": 0}, "count: expected an integer of at least 1, found 0"),
        ({"count": True}, "count: expected an integer of at least 1, found true"),
        ({"count": 1.5}, "count: expected an integer of at least 1, found 1.5"),
        ({"ratio": "1"}, "ratio: expected a number, found '1'"),
        ({"flag": "yes"}, "flag: expected true or false, found 'yes'"),
        ({"wait": "soon"}, "wait: expected a duration such as '250ms', '30s' or '5m', found 'soon'"),
        ({"wait": -1}, "wait: expected a duration such as '250ms', '30s' or '5m', found -1"),
        ({"wait": True}, "wait: expected a duration such as '250ms', '30s' or '5m', found true"),
        ({"size": 0.5}, "size: expected a size such as '64KiB' or '1MiB', found 0.5"),
        ({"place": "tcp"}, "place: expected an endpoint such as 'tcp:8080:interface=127.0.0.1' or "),
        ({"place": 80}, "place: expected an endpoint such as 'tcp:8080:interface=127.0.0.1' or "),
        ({"nets": "10.0.0.0/8"}, "nets: expected an array, each item a network such as"),
        ({"nets": ["10.0.0.0/8", "10.0.0.1/8"]}, "nets[1]: expected a network such as"),
        ({"pair": [1]}, "pair: expected"),
        ({"level": "lo"}, "level: expected one of 'low', 'high', found 'lo'; did you mean 'low'?"),
        ({"level": 3}, "level: expected one of 'low', 'high', found 3"),
        ({"mode": "x"}, "mode: expected one of 'fast', 'safe', found 'x'"),
        ({"either": "x"}, "either: expected an integer, found 'x'"),
        ({"leaf": None}, "leaf: expected a table, found null"),
        ({"leaf": []}, "leaf: expected a table, found an array"),
        ({"maybe": 1}, "maybe: expected a table, found 1"),
        ({"maybe": {"low": "x"}}, "maybe.low: expected an integer, found 'x'"),
        ({"named": {"A": {}}}, "named.A: expected text"),
        ({"named": {"a": 1}}, "named.a: expected a table, found 1"),
        ({"named": {1: {}}}, "named[1]: expected text"),
        ({"leaf": {"low": 11}}, "leaf: low and high contradict each other"),
        ({"leaf": {"low": -1}}, "leaf.low: must not be negative, found -1"),
        ({"nmae": "x"}, "nmae: unknown key, did you mean 'name'?"),
        ({"high": 3}, "high: unknown key, did you mean 'leaf.high' or 'maybe.high'?"),
        ({"zzzzz": 3}, "zzzzz: unknown key, known are count, either"),
        ({5: 3}, "5: unknown key"),
        ({"ratio": float("inf")}, "ratio: expected at most 32 levels, 64-bit numbers, and UTF-8 text without NUL"),
        ({"name": "\ud800"}, "name: expected at most 32 levels, 64-bit numbers, and UTF-8 text without NUL"),
        ({"name": "a\0b"}, "name: expected at most 32 levels, 64-bit numbers, and UTF-8 text without NUL"),
        (
            {"options": {"x": 2**63}},
            "options.x: expected at most 32 levels, 64-bit numbers, and UTF-8 text without NUL",
        ),
        ([], "configuration: expected a table, found an array"),
    ],
)
def test_a_fault_is_told_with_its_path_what_was_found_and_what_was_expected(document, problem):
    (found,) = problems_of(document)
    assert found.startswith(problem)


def test_all_faults_are_told_at_once():
    assert len(problems_of({"name": 1, "count": 0, "leaf": {"low": "x", "lo": 1}, "named": {"A": {"low": ""}}})) == 6


def test_a_missing_key_is_told_beside_the_others():
    assert problems_of({"other": {"low": -5}}, Strict) == [
        "other.low: must not be negative, found -5",
        "needed: missing, expected an integer",
    ]


def test_a_secret_is_never_shown():
    assert problems_of({"secret": 12345}) == ["secret: expected text, found something else, which is not shown"]


def test_what_could_be_built_is_kept_by_its_path():
    converter = Converter()
    assert converter.convert(Root, {"name": 1, "leaf": {"low": 1}, "maybe": {"low": 2}}) is INVALID
    assert converter.built["leaf",] == Leaf(low=1)
    assert converter.built["maybe", "low"] == 2
    assert ("name",) not in converter.built


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("name", "plain", "plain"),
        ("name", "12", "12"),
        ("name", "true", "true"),
        ("name", '"12"', "12"),
        ("name", "1\nflag = true", "1\nflag = true"),
        ("name", "[" * 5000, "[" * 5000),
        ("count", "12", 12),
        ("count", "0x10", 16),
        ("ratio", "0.25", 0.25),
        ("flag", "true", True),
        ("flag", "True", True),
        ("flag", "1", True),
        ("flag", "off", False),
        ("wait", "30s", 30.0),
        ("wait", "30", 30.0),
        ("size", "1MiB", 1048576),
        ("nets", '["::1"]', ("::1",)),
        ("level", "HIGH", "high"),
        ("either", "auto", "auto"),
        ("either", "5", 5),
        ("leaf", "{low = 3}", Leaf(low=3)),
        ("maybe", "{low = 3}", Leaf(low=3)),
        ("maybe", "none", None),
        ("options", "{a = [1, 'x']}", {"a": [1, "x"]}),
        ("named", "{a = {low = 1}}", {"a": Leaf(low=1)}),
    ],
)
def test_text_is_read_as_toml_where_that_fits_and_as_it_stands_elsewhere(key, text, value):
    assert getattr(read({key: Text(text)}), key) == value


def test_text_for_a_free_option_is_toml_if_it_can_be():
    assert read({"options": {"a": Text("5"), "b": Text("5s")}}).options == {"a": 5, "b": "5s"}


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("count", "many", "count: expected an integer of at least 1, found 'many'"),
        ("count", "-1", "count: expected an integer of at least 1, found -1"),
        ("flag", "maybe", "flag: expected true or false, found 'maybe'"),
        ("leaf", "5", "leaf: expected a table, found 5"),
        ("leaf", "{low = 'x'}", "leaf.low: expected an integer, found 'x'"),
        ("leaf", "{low = 1", "leaf: expected a table, found '{low = 1'"),
        ("nets", "x", "nets: expected an array, each item a network such as '10.0.0.0/8' or '::1/128', found 'x'"),
    ],
)
def test_text_that_fits_in_no_reading_is_one_problem(key, text, problem):
    assert problems_of({key: Text(text)}) == [problem]


def test_the_table_of_a_text_is_found_without_knowing_its_field():
    assert as_table(Text("{a = 1}")) == {"a": 1}
    assert as_table(Text("a")) == as_table(5) == {}


def nest(depth, value=1):
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_has_a_limit():
    assert is_storable(nest(31))
    assert not is_storable(nest(32))
    assert is_too_deep({"a": nest(31)})
    assert not is_storable(nest(100_000))


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1s", "1MiB", "tcp:80", "::1", "low", "fast"]).flatmap(lambda t: st.sampled_from([t, Text(t)]))
    | st.text(max_size=8).map(Text),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(Root.__struct_fields__) | st.text(max_size=5) | st.integers(), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_any_document_is_built_or_has_a_problem(document):
    converter = Converter()
    result = converter.convert(Root, document)
    assert (result is INVALID) <= bool(converter.problems)
    assert isinstance(result, Root) or result is INVALID
    for problem in converter.problems:
        str(problem).encode()
