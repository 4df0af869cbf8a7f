"""The vectors behind the addresses of version 2, and the checksum among them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.errors import ProtocolViolation
from netapp.listeners.proxyproto import (
    ProxyParser,
    ProxyPolicy,
    ProxySsl,
    SslClient,
    TlvType,
    V2Parser,
    write_ssl,
)
from netapp.listeners.proxyproto.crc32c import crc32c

ADDRESSES = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)


def wire(extra):
    """A header with nothing unusual but ``extra``, which follows its addresses."""
    block = ADDRESSES + extra
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(block)) + block


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def parse(data, **fields):
    header = ProxyParser(ProxyPolicy(trusted=("127.0.0.0/8",), **fields)).feed(data)
    assert header is not None
    return header


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (b"\x01", "cut off"),
        (b"\x01\x00", "cut off"),
        (b"\x01\x00\x01", "type 0x01 overruns its block by 1 bytes"),
        (tlv(1, b"h2") + b"\x02\xff\xff", "type 0x02 overruns its block by 65535 bytes"),
        (tlv(TlvType.UNIQUE_ID, bytes(129)), "unique id of 129 bytes"),
        (tlv(TlvType.AUTHORITY, b"\xff"), "type 0x02 is not UTF-8"),
        (tlv(TlvType.CRC32C, b"abc"), "checksum of 3 bytes"),
        (tlv(TlvType.ALPN, b"h2") * 2, "two TLVs of type 0x01"),
        (tlv(TlvType.CRC32C, bytes(4)) * 2, "two TLVs of type 0x03"),
        (tlv(TlvType.SSL, b"\x01\x00\x00\x00"), "at least 5 bytes, not 4"),
        (tlv(TlvType.SSL, bytes(5) + b"\x21\x00\x02x"), "type 0x21 overruns its block by 1 bytes"),
        (tlv(TlvType.SSL, bytes(5) + tlv(0x22, b"a") * 2), "the SSL TLV has two of type 0x22"),
        (tlv(TlvType.SSL, bytes(5) + tlv(0x22, b"\xc3")), "type 0x22 is not UTF-8"),
        (tlv(TlvType.SSL, bytes(5) + tlv(0x23, "é".encode())), "type 0x23 is not ASCII"),
    ],
)
def test_a_malformed_tlv_is_refused_when_the_block_is_complete(extra, words):
    header = wire(extra)
    parser = V2Parser()
    assert parser.feed(header[:-1]) is None
    with pytest.raises(ProtocolViolation, match=words):
        parser.feed(header[-1:])


def test_tlvs_keep_their_order_and_paddings_are_dropped():
    extra = tlv(0xE0, b"1") + tlv(TlvType.NOOP, b"pad") + tlv(TlvType.NOOP, b"") + tlv(0xE0, b"2") + tlv(0xFF, b"")
    header = parse(wire(extra))
    assert header.tlvs == ((0xE0, b"1"), (0xE0, b"2"), (0xFF, b""))
    assert header.tlv(0xE0) == b"1"
    assert header.tlv(0xE1) is None


def test_the_tls_session_of_the_client_is_told():
    told = ProxySsl(
        client=SslClient.SSL | SslClient.CERT_SESSION,
        version="TLSv1.3",
        common_name="Zoë",
        cipher="TLS_AES_128_GCM_SHA256",
    )
    header = parse(wire(tlv(TlvType.SSL, write_ssl(told) + tlv(0x7F, b"unknown"))))
    assert header.ssl == told
    assert header.ssl.verified


def test_without_an_ssl_vector_there_is_no_tls_session():
    assert parse(wire(b"")).ssl is None


@pytest.mark.parametrize(
    ("client", "verify", "verified"),
    [(0x01, 0, False), (0x03, 0, True), (0x05, 0, True), (0x03, 10, False), (0x00, 0, False)],
)
def test_a_certificate_is_verified_only_where_there_was_one(client, verify, verified):
    """OpenSSL's result is 0 for a client without a certificate too."""
    assert ProxySsl(client=SslClient(client), verify=verify).verified is verified


# The checksum


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_the_checksum_is_castagnolis(data, checksum):
    """The check value of the CRC catalogue, and the vectors of RFC 3720 appendix B.4."""
    assert crc32c(data) == checksum


def with_checksum(before, after=b""):
    blank = wire(before + tlv(TlvType.CRC32C, bytes(4)) + after)
    at = 16 + 12 + len(before) + 3
    return blank[:at] + struct.pack("!I", crc32c(blank)) + blank[at + 4 :]


def test_a_checksum_may_stand_anywhere_among_the_tlvs():
    header = parse(with_checksum(tlv(TlvType.ALPN, b"h2"), tlv(0xE0, b"x")) + b"rest")
    assert header.tlvs == ((TlvType.ALPN, b"h2"), (0xE0, b"x"))
    assert header.rest == b"rest"


@given(st.integers(0, 8 * 12 - 1))
def test_any_flipped_bit_of_the_addresses_fails_the_checksum(bit):
    header = bytearray(with_checksum(b""))
    header[16 + bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolViolation, match="checksum does not fit"):
        parse(bytes(header))


def test_a_wrong_checksum_is_ignored_where_the_policy_says_so():
    header = wire(tlv(TlvType.CRC32C, b"\x00\x01\x02\x03"))
    assert parse(header, verify_checksum=False).source_host == "192.0.2.7"
    with pytest.raises(ProtocolViolation, match="checksum does not fit"):
        parse(header)
