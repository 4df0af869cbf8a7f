"""Content negotiation (RFC 9110 §12.5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.http.accept import preferred
from netapp.http.errors import wants_json

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        (BROWSER, "text/html"),
        ("text/plain", "text/plain"),
        ("text/*", "text/html"),
        ("TEXT/PLAIN", "text/plain"),
        ("text/html;q=0.5, text/plain", "text/plain"),
        ("text/html; level=1; q=0.5 , text/plain;q=0.6", "text/plain"),
        ("text/plain, text/html", "text/plain"),
        ("*/*, text/plain", "text/plain"),
        ("text/*;q=0.9, text/html;q=0.1", "text/plain"),
        ("text/html;q=0, */*", "text/plain"),
        ("application/pdf", "text/html"),
        ("text/html;q=nonsense, text/plain;q=0.1", "text/plain"),
        ("text/html;q=nan, text/plain;q=0.1", "text/plain"),
        ("text/html;q=7, text/plain;q=0.1", "text/plain"),
        (";;,,=,q=1", "text/html"),
    ],
)
def test_the_best_liked_of_two_texts_is_chosen(accept, chosen):
    assert preferred(accept, "text/html", "text/plain") == chosen


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("", False),
        ("*/*", False),
        (BROWSER, False),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/json, text/plain, */*", True),
        ("text/plain, application/json", False),
        ("text/plain;q=0.1, application/json", True),
        ("text/html, application/json;q=0.9", True),
        ("text/xml", False),
    ],
)
def test_json_is_wanted_where_it_is_liked_better_than_text(accept, json):
    assert wants_json(accept) is json


@given(st.text(max_size=60))
def test_any_field_at_all_leads_to_one_of_the_offers(accept):
    assert preferred(accept, "text/html", "text/plain") in {"text/html", "text/plain"}
