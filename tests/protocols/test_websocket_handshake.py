"""Who may connect, and how all others are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from netapp.http import Headers, HttpError, Request
from netapp.peer import Peer
from netapp.protocols.websocket import EchoService, WebSocketPolicy
from netapp.protocols.websocket.handshake import read_handshake
from tests.support.websocket import ACCEPT, HANDSHAKE, KEY, TEXT, Client, Recorder, connect, text

ROOT = Path(__file__).parents[2]


def status(client, *lines, **fields):
    return int(client.request(*lines, **fields).split()[1])


def test_the_handshake_is_answered_with_the_key_s_proof_and_nothing_that_names_the_software():
    answer = Client(EchoService()).request().split("\r\n")
    assert answer[0] == "HTTP/1.1 101 Switching Protocols"
    assert sorted(answer[1:]) == ["Connection: Upgrade", f"Sec-WebSocket-Accept: {ACCEPT}", "Upgrade: WebSocket"]


def test_frames_that_come_with_the_request_are_answered():
    client = Client(EchoService())
    client.request(behind=text("early"))
    assert client.read() == [(TEXT, b"early")]


@pytest.mark.parametrize(
    "fields",
    [
        {"Upgrade": None, "Connection": None},
        {"Upgrade": "h2c"},
        {"Connection": "keep-alive"},
        {"version": "1.0"},
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Version": None},
    ],
)
def test_a_request_for_something_else_is_answered_with_426(fields):
    assert status(Client(EchoService()), **fields) == 426


def test_another_version_is_told_which_one_is_spoken():
    assert "sec-websocket-version: 13" in Client(EchoService()).request(Sec_WebSocket_Version="8")


@pytest.mark.parametrize(
    "fields",
    [
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": "c2hvcnQ="},
        {"Sec_WebSocket_Key": KEY[:-3] + "!=="},
        {"method": "POST"},
        {"Content_Length": "3", "behind": b"abc"},
        {"Transfer_Encoding": "chunked", "behind": b"0\r\n\r\n"},
    ],
)
def test_a_malformed_handshake_is_answered_with_400(fields):
    assert status(Client(EchoService()), **fields) == 400


def test_a_second_key_is_answered_with_400():
    assert status(Client(EchoService()), f"Sec-WebSocket-Key: {KEY}") == 400


@pytest.mark.parametrize(
    ("origin", "origins", "expected"),
    [
        (None, (), 101),  # not a browser
        ("http://example.com", (), 101),
        ("http://example.com:80", (), 101),
        ("https://example.com", (), 101),  # the TLS may have been undone before us
        ("HTTP://EXAMPLE.com", (), 101),
        ("http://example.com:8080", (), 403),
        ("http://evil.com", (), 403),
        ("http://example.com.evil.com", (), 403),
        ("ftp://example.com", (), 403),
        ("null", (), 403),
        ("example.com", (), 403),
        ("https://friend.org", ("https://friend.org",), 101),
        ("https://Friend.org", ("https://friend.ORG",), 101),
        ("http://friend.org", ("https://friend.org",), 403),
        ("http://example.com", ("https://friend.org",), 403),
        (None, ("https://friend.org",), 101),
        ("null", ("null",), 101),
        ("http://any.where", ("*",), 101),
    ],
)
def test_origins(origin, origins, expected):
    assert status(Client(EchoService(), WebSocketPolicy(origins=origins)), Origin=origin) == expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://example.com", "EXAMPLE.com:80", 101),
        ("https://example.com", "example.com:443", 101),
        ("http://example.com:8080", "example.com:8080", 101),
        ("http://example.com", "example.com:8080", 403),
        ("http://[::1]", "[::1]:80", 101),
    ],
)
def test_the_same_origin_is_that_of_the_host_that_was_asked_for(origin, host, expected):
    assert status(Client(EchoService()), Origin=origin, Host=host) == expected


def test_two_origins_are_none():
    assert status(Client(EchoService()), "Origin: http://example.com", "Origin: http://evil.com") == 400


@pytest.mark.parametrize(("origin", "allowed"), [("https://example.com", True), ("http://example.com", False)])
def test_over_tls_a_page_without_tls_is_another_origin(origin, allowed):
    headers = Headers({**HANDSHAKE, "Origin": origin})
    request = Request("GET", b"/ws", headers, Peer("1"), host="example.com", scheme="https")
    if allowed:
        assert read_handshake(request, WebSocketPolicy()).key == KEY
    else:
        with pytest.raises(HttpError, match="403"):
            read_handshake(request, WebSocketPolicy())


def test_the_client_s_first_choice_of_a_subprotocol_is_taken():
    service = Recorder()
    client = Client(service, WebSocketPolicy(subprotocols=("a", "b")))
    assert "Sec-WebSocket-Protocol: b" in client.request(Sec_WebSocket_Protocol="x, b, a")
    assert service.socket.subprotocol == "b"


def test_a_client_whose_subprotocols_are_unknown_gets_none():
    service = Recorder()
    client = Client(service, WebSocketPolicy(subprotocols=("a",)))
    assert "Sec-WebSocket-Protocol" not in client.request(Sec_WebSocket_Protocol="A, x")
    assert service.socket.subprotocol is None


def test_small_frames_are_sent_at_once():
    client = Client(EchoService())
    delays = []
    client.stream.setTcpNoDelay = delays.append
    client.request()
    assert delays == [True]


def test_a_socket_knows_its_request_and_its_peer():
    service = Recorder()
    connect(service)
    assert service.socket.request.path == "/ws"
    assert service.socket.peer is service.socket.request.peer
    assert service.socket.peer.id in repr(service.socket)


def test_importing_the_package_does_not_wait_for_autobahn_and_no_connection_needs_the_global_reactor():
    code = (
        "import sys, netapp.protocols.websocket; assert 'autobahn' not in sys.modules;"
        "from tests.support.websocket import connect, text; client = connect();"
        "client.send(text('x')); client.server.drain(); client.stream.lose();"
        "assert 'autobahn' in sys.modules; assert 'twisted.internet.reactor' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_message": 0},
        {"max_frame": 0},
        {"queue_messages": 0},
        {"queue_bytes": 0},
        {"handshake_timeout": 0.0},
        {"close_timeout": 0.0},
        {"ping_timeout": 0.0},
        {"origins": ("example.com",)},
        {"origins": ("https://example.com/path",)},
        {"subprotocols": ("two words",)},
    ],
)
def test_a_policy_that_would_not_hold_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields)).rstrip("s")):
        WebSocketPolicy(**fields)


def test_the_defaults_are_the_documented_ones():
    policy = WebSocketPolicy()
    assert (policy.max_message, policy.deflate, policy.handshake_timeout) == (1 << 20, False, 5.0)
    assert (policy.ping_interval, policy.ping_timeout) == (20.0, 20.0)
    assert (policy.queue_messages, policy.queue_bytes) == (32, 1 << 20)
