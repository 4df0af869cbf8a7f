import pytest

from netapp.config import parse_config
from netapp.errors import ConfigError
from netapp.listeners.detect import DETECTORS

WEB = {"kind": "http", "endpoint": "tcp:80"}
ECHO = {"kind": "echo", "endpoint": "tcp:81"}


def problems_of(listeners=None, **others):
    document = others if listeners is None else {"listeners": listeners, **others}
    try:
        parse_config(document)
    except ConfigError as error:
        return list(error.problems)
    return []


def detecting(**detect):
    return {"web": WEB, "echo": ECHO, "all": {"kind": "detect", "endpoint": "tcp:82", "detect": detect}}


@pytest.mark.parametrize("kind", ["http", "echo", "calculator", "package.module:Factory", "a:B", "a.b.c:D.e"])
def test_built_in_kinds_and_factories_are_kinds(kind):
    assert problems_of({"x": {"kind": kind, "endpoint": "tcp:80"}}) == []


@pytest.mark.parametrize("kind", ["https", "package.module", "a:", ":B", "a b:C", "1a:B", "a:B:C", "a/b:C"])
def test_anything_else_is_none(kind):
    (problem,) = problems_of({"x": {"kind": kind, "endpoint": "tcp:80"}})
    assert problem.startswith(
        "listeners.x.kind: expected one of calculator, detect, echo, http, or 'package.module:Factory'"
    )


@pytest.mark.parametrize(
    ("kind", "unused"),
    [
        ("echo", ["calculator", "detect", "http", "options", "websocket"]),
        ("http", ["calculator", "detect", "options"]),
        ("calculator", ["detect", "http", "options", "websocket"]),
        ("a:B", ["calculator", "detect", "http", "websocket"]),
        ("detect", ["options"]),
    ],
)
def test_a_table_that_would_silently_do_nothing_is_a_problem(kind, unused):
    tables = {"calculator": {}, "detect": {"fallback": "echo"}, "http": {}, "options": {}, "websocket": {}}
    assert problems_of({"x": {"kind": kind, "endpoint": "tcp:80", **tables}}) == [
        f"listeners.x.{table}: not used by a listener of the kind {kind!r}" for table in unused
    ]


def test_options_are_for_factories_of_the_users_own():
    assert problems_of({"x": {"kind": "a:B", "endpoint": "tcp:80", "options": {"any": [1, "thing"]}}}) == []


def test_a_detecting_listener_needs_its_table():
    assert problems_of({"x": {"kind": "detect", "endpoint": "tcp:80"}}) == [
        "listeners.x.detect: missing, expected a table, because the kind is 'detect'"
    ]
    assert problems_of({"x": {"kind": "detect", "endpoint": "tcp:80", "detect": {}}}) == [
        "listeners.x.detect: detection needs protocols or a fallback"
    ]


def test_detection_leads_to_listeners_kinds_and_factories():
    protocols = {"http1": "web", "calculator_varint": "calculator", "calculator_int32": "my.own:Factory"}
    assert problems_of(detecting(protocols=protocols, fallback="echo")) == []


@pytest.mark.parametrize(
    ("detect", "problem"),
    [
        (
            {"protocols": {"http1": "wbe"}},
            "protocols.http1: expected the name of a listener or a kind, found 'wbe'; did you mean 'web'?",
        ),
        ({"protocols": {"http1": "all"}}, "protocols.http1: expected the name of a listener or a kind, found 'all'; "),
        ({"protocols": {"http1": "detect"}}, "protocols.http1: expected the name of a listener or a kind, found 'det"),
        (
            {"fallback": "ehco"},
            "fallback: expected the name of a listener or a kind, found 'ehco'; did you mean 'echo'?",
        ),
        ({"fallback": "tls"}, "fallback: expected the name of a listener or a kind, found 'tls'; "),
        ({"protocols": {"htpp1": "web"}}, "protocols.htpp1: unknown detector, did you mean 'http1'?"),
        ({"protocols": {"tls": "tls"}}, "protocols.tls: leads to 'tls', but this listener has no 'tls' table"),
    ],
)
def test_detection_that_leads_nowhere_is_a_problem(detect, problem):
    (found,) = problems_of(detecting(**detect))
    assert found.startswith(f"listeners.all.detect.{problem}")


def test_detection_may_lead_into_tls_by_the_listeners_own_table():
    listeners = detecting(protocols={"tls": "tls", "http1": "web"})
    listeners["all"]["tls"] = {"certificate": "x.pem"}
    assert problems_of(listeners) == []


def test_a_detector_that_is_registered_is_known(monkeypatch):
    monkeypatch.setattr(DETECTORS, "_known", {**DETECTORS, "mine": DETECTORS["tls"]})
    assert problems_of(detecting(protocols={"mine": "web"})) == []


def test_a_detector_that_a_users_own_module_may_yet_register_is_left_to_the_start():
    listeners = detecting(protocols={"mine": "web"})
    assert problems_of({**listeners, "own": {"kind": "my.own:Factory", "endpoint": "tcp:83"}}) == []


def test_tls_within_tls_is_a_problem():
    listener = {"kind": "http", "endpoint": "ssl:443", "tls": {"certificate": "x.pem"}}
    assert problems_of({"x": listener}) == [
        "listeners.x.tls: the endpoint is 'ssl:' already: expected 'tcp:' with this table"
    ]


def test_two_listeners_at_one_place_are_a_problem_told_once():
    assert problems_of({"b": ECHO, "a": {**WEB, "endpoint": "tcp:81:interface=127.0.0.1"}}) == [
        "listeners.b.endpoint: cannot listen at the same place as listeners.a.endpoint, 'tcp:81:interface=127.0.0.1'"
    ]


def test_admin_needs_a_place_of_its_own_unless_it_is_off():
    listeners = {"x": {**ECHO, "endpoint": "tcp:9090:interface=127.0.0.1"}}
    assert problems_of(listeners)[0].startswith(
        "admin.endpoint: cannot listen at the same place as listeners.x.endpoint"
    )
    assert problems_of(listeners, admin={"enabled": False}) == []


@pytest.mark.parametrize(
    "endpoint", ["tcp:9090", "tcp:9090:interface=192.0.2.1", "tcp6:9090", "systemd:domain=INET:index=0"]
)
def test_an_admin_listener_that_others_can_reach_needs_a_token(endpoint):
    (problem,) = problems_of(admin={"endpoint": endpoint})
    assert problem.startswith("admin.token: missing, expected a token or a token_file, because '")
    assert problems_of(admin={"endpoint": endpoint, "token": "x"}) == []
    assert problems_of(admin={"endpoint": endpoint, "token_file": "x"}) == []
    assert problems_of(admin={"endpoint": endpoint, "enabled": False}) == []


@pytest.mark.parametrize("endpoint", ["tcp:9090:interface=127.0.0.1", r"tcp6:9090:interface=\:\:1", "unix:/run/x"])
def test_an_admin_listener_on_this_machine_only_needs_none(endpoint):
    assert problems_of(admin={"endpoint": endpoint}) == []


def test_one_token_is_enough():
    assert problems_of(admin={"token": "x", "token_file": "y"}) == ["admin: expected token or token_file, not both"]


@pytest.mark.parametrize("listeners", [5, [], {"x": 5}, {"x": {"kind": 5, "endpoint": 5, "tls": 5, "detect": 5}}])
def test_what_is_no_table_is_told_by_its_type_alone(listeners):
    assert all("expected" in problem for problem in problems_of(listeners))
    assert problems_of(listeners)
