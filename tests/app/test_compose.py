"""From a configuration to services: what is composed, and everything that is wrong with it, before any bind."""

import sys

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from netapp.app import compose
from netapp.config import parse_config
from netapp.errors import ConfigError
from tests.support.certificates import certificates


class Own(Factory):
    protocol = Protocol

    def __init__(self, greeting="hello"):
        self.greeting = greeting


class NotAFactory:
    pass


@pytest.fixture
def reactor():
    return MemoryReactorClock()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_module", sys.modules[__name__])


def problems(document, reactor):
    with pytest.raises(ConfigError) as caught:
        compose(parse_config(document), reactor)
    return caught.value.problems


def listener(kind="echo", **fields):
    return {"listeners": {"one": {"kind": kind, "endpoint": "tcp:0", **fields}}}


def test_the_default_configuration_has_a_listener_of_each_kind_and_the_admin(reactor):
    service = compose(parse_config({}), reactor)
    assert {each.name: each.kind for each in service.listeners} == {
        "web": "http",
        "calculator": "calculator",
        "echo": "echo",
    }
    assert service.admin.name == "admin"
    assert not reactor.tcpServers, "composing binds nothing"


def test_an_own_factory_is_imported_and_given_its_options(reactor):
    service = compose(parse_config(listener("own_module:Own", options={"greeting": "hi"})), reactor)
    assert service.listeners[0].factory.greeting == "hi"


def test_an_own_factory_that_asks_for_it_is_given_the_application(reactor, monkeypatch):
    """So it can count in the application's registry, use its timers and register a health check."""
    monkeypatch.setattr(
        Own, "set_application", lambda self, application: setattr(self, "seen", application), raising=False
    )
    service = compose(parse_config(listener("own_module:Own")), reactor)
    assert service.listeners[0].factory.seen is service


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("no_such_module:Factory", {}, "cannot import 'no_such_module:Factory'"),
        ("own_module:Missing", {}, "cannot import 'own_module:Missing'"),
        ("own_module:NotAFactory", {}, "is no IProtocolFactory"),
        ("own_module:Own", {"color": 1}, "refused color"),
    ],
)
def test_a_factory_that_cannot_be_had_is_named_with_its_reason(reactor, kind, options, told):
    [problem] = problems(listener(kind, options=options), reactor)
    assert problem.startswith("listeners.one.")
    assert told in problem


def test_an_endpoint_that_twisted_does_not_know_is_a_problem_before_any_bind(reactor):
    [problem] = problems(listener(endpoint="nonsense:1"), reactor)
    assert problem.startswith("listeners.one.endpoint: not an endpoint that Twisted knows: 'nonsense:1'")


def test_a_certificate_that_does_not_load_is_a_problem_with_the_files_name(reactor, tmp_path):
    missing = str(tmp_path / "missing.pem")
    [problem] = problems(listener("http", tls={"certificate": missing}), reactor)
    assert problem.startswith("listeners.one.tls:")
    assert missing in problem


def test_every_problem_is_told_in_one_go(reactor, tmp_path):
    document = {
        "listeners": {
            "a": {"kind": "no_such_module:F", "endpoint": "tcp:0"},
            "b": {"kind": "echo", "endpoint": "nonsense:1"},
        },
        "admin": {"token_file": str(tmp_path / "missing")},
    }
    assert [problem.split(":")[0] for problem in problems(document, reactor)] == [
        "listeners.a.kind",
        "listeners.b.endpoint",
        "admin.token_file",
    ]


def test_an_empty_token_file_is_no_token(reactor, tmp_path):
    """An operator who made the file and forgot to fill it must not get an open admin listener."""
    empty = tmp_path / "token"
    empty.write_text(" \n")
    document = {"admin": {"endpoint": "tcp:9090", "token_file": str(empty)}, "listeners": {}}
    [problem] = problems(document, reactor)
    assert problem == f"admin.token_file: {empty} is empty"


def test_detection_has_a_factory_for_each_of_its_targets(reactor):
    files = certificates().server("example.test")
    detect = {"protocols": {"tls": "tls", "http1": "http", "calculator_varint": "calculator"}, "fallback": "echo"}
    service = compose(
        parse_config(
            listener("detect", detect=detect, tls={"certificate": str(files.certificate), "key": str(files.key)})
        ),
        reactor,
    )
    [one] = service.listeners
    assert set(one.factories) == {"http", "calculator", "echo"}
    assert one.detects_tls


def test_a_protocol_without_a_name_in_alpn_refuses_none(reactor):
    files = certificates().server("example.test")
    service = compose(
        parse_config(listener(tls={"certificate": str(files.certificate), "key": str(files.key)})), reactor
    )
    assert service.listeners[0].context.policy.alpn == ()
