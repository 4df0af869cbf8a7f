from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from netapp.config.typeinfo import describe_type, format_value, inspect_type, table_of
from netapp.units import Cidr, Duration, Endpoint, Secret, Size


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Struct):
    pass


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (bool, "true or false"),
        (Any, "any value"),
        (Annotated[int, Meta(ge=1, le=9)], "an integer of at least 1 and of at most 9"),
        (Annotated[float, Meta(gt=0, description="a share")], "a number above 0 (a share)"),
        (Duration, "a duration such as '250ms', '30s' or '5m'"),
        (Annotated[Size, Meta(gt=0)], "a size such as '64KiB' or '1MiB' above 0"),
        (Secret, "text"),
        (Endpoint, "an endpoint such as 'tcp:8080:interface=127.0.0.1' or 'unix:/run/netapp.sock'"),
        (tuple[Cidr, ...], "an array, each item a network such as '10.0.0.0/8' or '::1/128'"),
        (tuple[int, str], "tuple"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (Colour, "one of 'red', 'blue'"),
        (int | str, "an integer or text"),
        (Inner | None, "a table"),
        (dict[str, int], "a table"),
        (bytes, "bytes"),
    ],
)
def test_an_annotation_is_put_in_words(annotation, words):
    assert describe_type(annotation).removeprefix("<class '").removesuffix("'>") == words


def test_the_outermost_mark_counts():
    info = inspect_type(Annotated[Duration, Meta(ge=5, extra={"other": 1})])
    assert (info.unit, info.limits["ge"], info.is_optional) == ("duration", 5, False)


def test_none_is_an_alternative_only_where_it_is_named():
    assert inspect_type(int | None).is_optional
    assert inspect_type(None).is_optional
    assert not inspect_type(int | str).is_optional


def test_the_table_of_an_annotation_is_its_struct():
    assert table_of(Inner | None) is Inner
    assert table_of(Inner) is Inner
    assert table_of(dict[str, Inner]) is None


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Duration, 0.25, '"250ms"'),
        (Size, 1024, '"1KiB"'),
        (bool, True, "true"),
        (str, "x", '"x"'),
        (tuple[int, ...], (1, 2), "[1, 2]"),
        (dict[str, int], {}, "{}"),
        (dict[str, int], {"a": 1}, "{…}"),
        (int | None, None, "none"),
        (float, 0.5, "0.5"),
    ],
)
def test_a_default_is_written_as_it_would_stand_in_a_file(annotation, value, text):
    assert format_value(annotation, value) == text
