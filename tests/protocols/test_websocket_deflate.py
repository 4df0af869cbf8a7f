"""permessage-deflate (RFC 7692): off unless asked for, and bounded by what it inflates to."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netapp.protocols.websocket import EchoService, WebSocketPolicy
from tests.support.websocket import BINARY, CLOSE, TEXT, Client, Recorder, connect, frame

POLICY = WebSocketPolicy(deflate=True, max_message=10_000, max_frame=10_000)
COMPRESSED = 0x40


def deflated(data, *, final=False):
    codec = zlib.compressobj(wbits=-15)
    packed = codec.compress(data) + codec.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
    return packed if final else packed[:-4]


def inflated(data):
    return zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")


def connect_deflated(service=None, policy=POLICY):
    return connect(service, policy, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")


def refused(client):
    """Return the code that the server closes with."""
    [(opcode, payload)] = client.read()
    assert opcode == CLOSE
    return struct.unpack("!H", payload[:2])[0]


def test_compression_is_declined_unless_asked_for():
    assert "extensions" not in Client(EchoService()).request(Sec_WebSocket_Extensions="permessage-deflate").lower()


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; nonsense",
        "x-webkit-deflate-frame",
        "permessage-bzip2",
        ";;,=,",
    ],
)
def test_an_offer_that_is_invalid_or_unknown_is_declined(offer):
    assert "extensions" not in Client(EchoService(), POLICY).request(Sec_WebSocket_Extensions=offer).lower()


def test_an_offer_behind_an_invalid_one_is_taken():
    answer = Client(EchoService(), POLICY).request(
        "Sec-WebSocket-Extensions: permessage-deflate", Sec_WebSocket_Extensions="permessage-deflate; nonsense"
    )
    assert "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover" in answer


def test_compressed_messages_are_echoed_compressed():
    client = connect_deflated()
    for _ in range(2):
        client.send(frame(TEXT, deflated(b"hello " * 100), rsv=4))
        [(opcode, payload)] = client.read()
        assert opcode == TEXT | COMPRESSED
        assert inflated(payload) == b"hello " * 100


def test_a_compressed_message_in_fragments_and_one_that_is_not_compressed():
    client = connect_deflated()
    packed = deflated(b"abc" * 50)
    client.send(frame(BINARY, packed[:4], fin=False, rsv=4), frame(0, packed[4:]), frame(BINARY, b"plain"))
    assert [inflated(payload) for _, payload in client.read()] == [b"abc" * 50, b"plain"]


@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize("size", [10_001, 10_200, 1 << 22])
def test_a_message_that_inflates_to_too_much_is_answered_with_1009(size, fragments):
    service = Recorder()
    client = connect_deflated(service)
    packed = deflated(bytes(size))
    cut = len(packed) // fragments
    client.send(frame(BINARY, packed[:cut], rsv=4, fin=fragments == 1))
    if fragments == 2:
        client.send(frame(0, packed[cut:]))
    assert refused(client) == 1009
    assert client.server.ending.rule == "websocket_max_message"
    assert service.seen == ["open"]


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=30), st.integers(1, 60), st.integers(0, 9), st.integers(1, 5))
def test_a_compressed_message_is_delivered_whole_or_not_at_all(seed, times, level, over):
    """The limit is that of the message, however well or badly it was compressed.

    Badly: its compressed form may be over the limit while it is not. Well: zlib stops at a limit that it is given, and
    says nothing of what it had still in hand.
    """
    message = seed * times
    codec = zlib.compressobj(level, wbits=-15)
    packed = (codec.compress(message) + codec.flush(zlib.Z_SYNC_FLUSH))[:-4]
    for limit in (max(1, len(message) - over), len(message)):
        service = Recorder()
        client = connect_deflated(service, WebSocketPolicy(deflate=True, max_message=limit, max_frame=limit))
        client.send(frame(BINARY, packed, rsv=4))
        assert service.seen == (["open", message] if len(message) <= limit else ["open"])


def test_messages_that_end_with_a_final_block_are_understood():
    """RFC 7692 §7.2.3.4."""
    service = Recorder()
    client = connect_deflated(service)
    for _ in range(3):
        client.send(frame(TEXT, deflated(b"Hello", final=True) + b"\0", rsv=4))
    assert service.seen == ["open"] + ["Hello"] * 3


def test_data_hidden_behind_a_final_block_is_refused():
    """It inflates to nothing, so no limit of size would ever see it."""
    client = connect_deflated()
    client.send(frame(TEXT, deflated(b"Hello", final=True), rsv=4, fin=False))
    client.send(frame(0, bytes(1000), fin=False))
    assert refused(client) == 1007


def test_corrupt_compressed_data_is_answered_with_1007():
    client = connect_deflated()
    client.send(frame(BINARY, b"\xff\xff\xff", rsv=4))
    assert refused(client) == 1007


def test_nothing_is_held_for_compression_between_messages():
    client = connect_deflated()
    client.send(frame(TEXT, deflated(b"x"), rsv=4))
    codec = client.server._framer._perMessageCompress
    assert codec._compressor is None
    assert codec._decompressor is None
