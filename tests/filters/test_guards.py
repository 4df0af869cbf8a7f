"""Who may ask."""

import pytest

from netapp.filters.guards import is_loopback, refuse_cross_site, require_bearer, require_local_host
from netapp.http import HttpError, Response
from netapp.peer import Peer


def status_of_answer(guard, request):
    try:
        return guard(lambda _: Response(204))(request).status
    except HttpError as error:
        return error.status


@pytest.mark.parametrize("value", ["Bearer s3cret", "bearer s3cret", "BEARER   s3cret"])
def test_the_token_opens(make_request, value):
    assert status_of_answer(require_bearer("s3cret"), make_request(headers=[("Authorization", value)])) == 204


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer s3cre"],
        ["Bearer s3crets"],
        ["Bearer S3CRET"],
        ["Bearer s3cret, Bearer x"],
        ["Basic czNjcmV0"],
        ["s3cret"],
        ["Bearer é"],
        ["Bearer s3cret", "Bearer s3cret"],
    ],
)
def test_nothing_else_does(make_request, fields):
    request = make_request(headers=[("Authorization", value) for value in fields])
    assert status_of_answer(require_bearer("s3cret"), request) == 401


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [([], 'Bearer realm="x"'), ([("Authorization", "Bearer y")], 'Bearer realm="x", error="invalid_token"')],
)
def test_the_refusal_says_what_is_needed(make_request, headers, challenge):
    with pytest.raises(HttpError) as caught:
        require_bearer("s3cret", realm="x")(lambda _: Response())(make_request(headers=headers))
    assert dict(caught.value.headers) == {"WWW-Authenticate": challenge}


@pytest.mark.parametrize(
    ("target", "status"), [(b"/open", 204), (b"/open?a", 204), (b"/op%65n", 401), (b"/open/", 401), (b"//open", 401)]
)
def test_an_open_path_is_open_in_one_spelling(make_request, target, status):
    guard = require_bearer("s3cret", open_paths=["/open"])
    assert status_of_answer(guard, make_request(target=target)) == status


def test_a_token_of_any_text_can_be_asked_for(make_request):
    request = make_request(headers=[("Authorization", "Bearer " + "é€".encode().decode("latin-1"))])
    assert status_of_answer(require_bearer("é€"), request) == 204


def test_an_empty_token_is_refused():
    with pytest.raises(ValueError, match="let everybody in"):
        require_bearer("")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"Sec-Fetch-Site": "same-origin"}, 204),
        ({"Sec-Fetch-Site": "none"}, 204),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:9090"}, 403),
        ({"Origin": "http://localhost:9090"}, 204),
        ({"Origin": "http://LOCALHOST:9090"}, 204),
        ({"Origin": "https://localhost:9090"}, 403),
        ({"Origin": "http://localhost:9091"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_a_page_of_another_site_cannot_change_anything(make_request, method, headers, status):
    request = make_request(method, headers=headers, host="localhost:9090")
    assert status_of_answer(refuse_cross_site, request) == status


def test_one_good_field_does_not_hide_a_bad_one(make_request):
    headers = [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]
    assert status_of_answer(refuse_cross_site, make_request("POST", headers=headers)) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_link_from_another_site_may_be_followed(make_request, method):
    request = make_request(method, headers={"Sec-Fetch-Site": "cross-site"})
    assert status_of_answer(refuse_cross_site, request) == 204


LOOPBACK = ["localhost", "localhost:9090", "LOCALHOST", "a.localhost:1", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:1"]
OTHERS = [
    "evil.example",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example:9090",
    "0.0.0.0:9090",
    "192.0.2.1",
    "[::]:9090",
    "[2001:db8::1]",
    "127.1",
    "2130706433",
    "",
    ":9090",
]


@pytest.mark.parametrize(
    ("host", "loopback"), [*((host, True) for host in LOOPBACK), *((host, False) for host in OTHERS)]
)
def test_a_loopback_host_is_known_in_every_form(host, loopback):
    assert is_loopback(host) is loopback


def test_a_name_that_was_bent_to_this_machine_is_refused(make_request):
    """DNS rebinding: the page's own name resolves to 127.0.0.1 all of a sudden."""
    assert status_of_answer(require_local_host, make_request(host="evil.example:9090")) == 403
    assert status_of_answer(require_local_host, make_request(host="localhost:9090")) == 204


def test_who_cannot_be_a_browser_may_name_any_host_or_none(make_request):
    assert status_of_answer(require_local_host, make_request(host="")) == 204
    assert status_of_answer(require_local_host, make_request(host="x", peer=Peer("c"))) == 204
