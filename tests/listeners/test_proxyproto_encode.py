"""Writing headers: the bytes themselves, and what cannot be written."""

from __future__ import annotations

import pytest

from netapp.listeners.proxyproto import (
    Command,
    Family,
    ProxyHeader,
    ProxyParser,
    ProxyPolicy,
    ProxySsl,
    encode_v1,
    encode_v2,
    write_ssl,
)

CLIENT, SERVER = ("192.0.2.7", 56324), ("198.51.100.1", 443)


def test_version_1_is_the_line_of_the_specification():
    assert encode_v1(ProxyHeader.between(CLIENT, SERVER)) == b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"


def test_version_2_is_the_block_of_the_specification():
    signature = bytes.fromhex("0d0a0d0a000d0a515549540a")
    block = bytes.fromhex("c0000207 c6336401 dc04 01bb".replace(" ", ""))
    assert encode_v2(ProxyHeader.between(CLIENT, SERVER)) == signature + b"\x21\x11\x00\x0c" + block


@pytest.mark.parametrize("family", [Family.UNSPEC, Family.UNIX])
def test_what_version_1_cannot_name_is_unknown(family):
    assert encode_v1(ProxyHeader(command=Command.PROXY, family=family)) == b"PROXY UNKNOWN\r\n"


def test_local_and_unspecified_headers_have_no_block():
    assert encode_v2(ProxyHeader(tlvs=((1, b"h2"),)))[12:] == b"\x20\x00\x00\x00"
    assert encode_v2(ProxyHeader(command=Command.PROXY), checksum=True)[12:] == b"\x21\x00\x00\x00"


def test_one_family_is_found_for_two_different_ends():
    header = ProxyHeader.between(("192.0.2.7", 1), ("2001:db8::1", 2))
    assert header.family is Family.INET6
    assert header.source_host in {"::ffff:c000:207", "::ffff:192.0.2.7"}
    assert encode_v2(header)[16:32] == bytes(10) + b"\xff\xff\xc0\x00\x02\x07"


def test_mapped_addresses_at_both_ends_are_written_as_ipv4():
    header = ProxyHeader.between(("::ffff:192.0.2.7", 56324), ("::ffff:198.51.100.1", 443))
    assert header == ProxyHeader.between(CLIENT, SERVER)


def test_a_scope_is_dropped():
    assert ProxyHeader.between(("fe80::1%eth0", 1), ("fe80::2%eth0", 2)).source_host == "fe80::1"
    scoped = ProxyHeader(
        command=Command.PROXY, family=Family.INET6, source_host="fe80::1%eth0", destination_host="fe80::2"
    )
    assert encode_v1(scoped) == b"PROXY TCP6 fe80::1 fe80::2 0 0\r\n"


@pytest.mark.parametrize("host", ["", "localhost", "1.2.3", "1.2.3.4 ", "x" * 100_000])
def test_what_is_no_address_is_refused(host):
    with pytest.raises(ValueError, match="expected an IP address"):
        ProxyHeader.between((host, 1), SERVER)


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match="a port is 0 to 65535"):
        ProxyHeader.between(CLIENT, ("198.51.100.1", port))


def test_a_local_header_cannot_have_addresses():
    with pytest.raises(ValueError, match="LOCAL"):
        ProxyHeader(command=Command.LOCAL, family=Family.INET)


@pytest.mark.parametrize("encode", [encode_v1, encode_v2])
def test_a_host_of_another_family_is_refused(encode):
    header = ProxyHeader(command=Command.PROXY, family=Family.INET, source_host="::1", destination_host="::1")
    with pytest.raises(ValueError, match="::1"):
        encode(header)


@pytest.mark.parametrize(
    ("tlvs", "words"),
    [
        (((256, b""),), "type of one byte"),
        (((-1, b""),), "type of one byte"),
        (((1, bytes(65536)),), "at most 65535 bytes"),
        (((1, bytes(40000)), (2, bytes(40000))), "65535 bytes of addresses and TLVs"),
    ],
)
def test_tlvs_that_do_not_fit_are_refused(tlvs, words):
    with pytest.raises(ValueError, match=words):
        encode_v2(ProxyHeader.between(CLIENT, SERVER, tlvs))


def test_a_path_that_does_not_fit_is_refused():
    header = ProxyHeader(command=Command.PROXY, family=Family.UNIX, source_path=b"x" * 109)
    with pytest.raises(ValueError, match="at most 108 bytes, not 109"):
        encode_v2(header)


def test_empty_texts_of_a_tls_session_are_left_out():
    assert write_ssl(ProxySsl()) == bytes(5)


def test_a_written_header_is_read_by_the_default_policy():
    policy = ProxyPolicy(trusted=("127.0.0.1",))
    header = ProxyHeader.between(CLIENT, SERVER)
    assert ProxyParser(policy).feed(encode_v2(header, checksum=True)).source_port == 56324
