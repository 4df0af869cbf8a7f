import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse, quoteStringArgument

from netapp.config.endpoint import EndpointText, parse_endpoint


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8080",
        "tcp:8080:interface=127.0.0.1:backlog=5",
        "tcp:port=8080",
        r"tcp:8080:interface=\:\:1",
        "tcp6:0",
        "unix:/run/netapp.sock:mode=600",
        "systemd:domain=INET:index=0",
        "ssl:443:privateKey=/etc/key.pem",
        "haproxy:tcp:8080",
        "txsocksx-like+kind:anything:x=y",
        "fd:3",
    ],
)
def test_endpoints_of_any_plugin_are_accepted(text):
    assert parse_endpoint(str(parse_endpoint(text))) == parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", "such as 'tcp:8080"),
        ("", "such as 'tcp:8080"),
        (":8080", "such as 'tcp:8080"),
        ("tcp", "such as 'tcp:8080"),
        ("kind=tcp:8080", "such as 'tcp:8080"),
        ("tcp:http", "a port from 0 to 65535"),
        ("tcp:65536", "a port from 0 to 65535"),
        ("tcp:-1", "a port from 0 to 65535"),
        ("tcp:", "a port from 0 to 65535"),
        ("ssl:privateKey=x", "a port from 0 to 65535"),
        ("tcp:80:interfaces=::1", "backlog, interface, port"),
        ("tcp:80:interface=a b", "an interface without white space"),
        ("unix:/run/x:chmod=600", "address, backlog, lockfile, mode"),
        ("unix:/run/x\n", "without control characters"),
    ],
)
def test_what_every_reader_would_call_a_mistake_is_an_error(text, expected):
    with pytest.raises(ValueError, match=expected):
        parse_endpoint(text)


@given(st.text(alphabet="ab:=\\/", min_size=1, max_size=20).map("x:{}".format))
def test_the_grammar_is_the_one_of_twisted(text):
    try:
        arguments, options = _parse(text)
    except (ValueError, TypeError, RuntimeError):
        return  # Twisted stumbles over a backslash at the end
    found = parse_endpoint(text)
    assert [found.kind, *found.arguments] == arguments
    assert found.options == options


@given(st.lists(st.text(alphabet="a1:=\\ é", max_size=6), max_size=3), st.text(alphabet="a:=\\", max_size=6))
def test_a_description_is_written_as_twisted_reads_it(arguments, value):
    endpoint = EndpointText("x", tuple(arguments), {"name": value})
    assert _parse(str(endpoint)) == (["x", *arguments], {"name": value})
    assert f"name={quoteStringArgument(value)}".replace("=", "") in str(endpoint).replace(r"\=", "=").replace("=", "")


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("tcp:80:interface=127.0.0.1", True),
        ("tcp:80:interface=127.8.8.8", True),
        ("tcp:80:interface=localhost", True),
        (r"tcp6:80:interface=\:\:1", True),
        ("unix:/run/x", True),
        ("tcp:80", False),
        ("tcp:80:interface=", False),
        ("tcp6:80", False),
        ("tcp:80:interface=192.0.2.1", False),
        ("tcp:80:interface=example.com", False),
        ("systemd:domain=INET:index=0", False),
        ("ssl:80", False),
    ],
)
def test_private_is_what_only_this_machine_reaches(text, private):
    assert parse_endpoint(text).is_private is private


def test_host_and_port_can_be_changed():
    endpoint = parse_endpoint("tcp:port=80:backlog=5")
    assert str(endpoint.with_port(81)) == "tcp:81:backlog=5"
    assert str(endpoint.with_port(81).with_host("::1")) == r"tcp:81:backlog=5:interface=\:\:1"


def test_what_has_neither_host_nor_port_says_so():
    with pytest.raises(ValueError, match="'unix' endpoints have neither"):
        parse_endpoint("unix:/x").with_port(1)
    with pytest.raises(ValueError, match="'systemd' endpoints have neither"):
        parse_endpoint("systemd:index=0").with_host("::1")
    assert (parse_endpoint("unix:/x").port, parse_endpoint("unix:/x").host) == ("", "")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("tcp:80", "tcp:80", True),
        ("tcp:80", "tcp:080", True),
        ("tcp:80", "tcp:81", False),
        ("tcp:80", "ssl:80", True),
        ("tcp:80", "tcp:80:interface=127.0.0.1", True),
        ("tcp:80:interface=127.0.0.1", "tcp:80:interface=0.0.0.0", True),
        ("tcp:80:interface=127.0.0.1", "tcp:80:interface=127.0.0.2", False),
        ("tcp6:80", r"tcp:80:interface=\:\:1", True),
        ("tcp6:80", "tcp:80", False),
        ("tcp:0", "tcp:0", False),
        ("unix:/x", "unix:/x:mode=600", True),
        ("unix:/x", "unix:address=/x", True),
        ("unix:/x", "unix:/y", False),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", True),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=1", False),
        ("tcp:80", "unix:/x", False),
    ],
)
def test_endpoints_overlap_when_both_cannot_listen(one, other, overlap):
    assert parse_endpoint(one).overlaps(parse_endpoint(other)) is overlap
    assert parse_endpoint(other).overlaps(parse_endpoint(one)) is overlap


@example(r"A:\\=")
@given(st.text(max_size=30) | st.text(alphabet="tcp:0168=\\interfacunxssl/.", max_size=40))
def test_any_text_is_an_endpoint_or_a_value_error(text):
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint
