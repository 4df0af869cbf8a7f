"""The parsers of the PROXY protocol, over every split of valid, broken and arbitrary bytes."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netapp.errors import ProtocolViolation
from netapp.listeners.proxyproto import (
    Command,
    Family,
    NoHeader,
    ProxyHeader,
    ProxyParser,
    ProxyPolicy,
    ProxySsl,
    SslClient,
    TlvType,
    V1Parser,
    V2Parser,
    encode_v1,
    encode_v2,
    write_ssl,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
INET = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)


def policy(**fields):
    return ProxyPolicy(trusted=("127.0.0.0/8",), **fields)


def v2(block=INET, *, command=0x21, family=0x11, length=None):
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def outcome(parser, pieces):
    """All that a parse can come to: the header, the words of the refusal, or None for more to come."""
    for index, piece in enumerate(pieces):
        try:
            header = parser.feed(piece)
        except ProtocolViolation as violation:
            return type(violation), str(violation)
        if header is not None:
            fields = {name: getattr(header, name) for name in header.__struct_fields__}
            return fields | {"rest": header.rest + b"".join(pieces[index + 1 :])}
    return None


def bytewise(data):
    return [data[index : index + 1] for index in range(len(data))]


def cut(data, places):
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def parse(data, **fields):
    header = ProxyParser(policy(**fields)).feed(data)
    assert header is not None
    return header


cuts = st.lists(st.integers(0, 4096), max_size=6)
ports = st.integers(0, 65535)
v4_hosts = st.ip_addresses(v=4).map(str)
v6_hosts = st.ip_addresses(v=6).map(str)
free_tlvs = st.lists(st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=40)), max_size=4)
names = st.text(st.characters(codec="ascii"), max_size=12)
ssl_values = st.builds(
    ProxySsl,
    client=st.integers(0, 7).map(SslClient),
    verify=st.integers(0, 2**32 - 1),
    version=names,
    common_name=st.text(st.characters(codec="utf-8"), max_size=12),
    cipher=names,
    signature_algorithm=names,
    key_algorithm=names,
)


@st.composite
def tlvs(draw):
    known = {
        TlvType.ALPN: draw(st.binary(max_size=10)),
        TlvType.AUTHORITY: draw(st.text(st.characters(codec="utf-8"), max_size=20)).encode(),
        TlvType.UNIQUE_ID: draw(st.binary(max_size=128)),
        TlvType.SSL: write_ssl(draw(ssl_values)),
    }
    chosen = draw(st.lists(st.sampled_from(list(known)), unique=True))
    return (*((int(kind), known[kind]) for kind in chosen), *draw(free_tlvs))


@st.composite
def relayed(draw):
    hosts = draw(st.sampled_from([v4_hosts, v6_hosts]))
    return ProxyHeader.between((draw(hosts), draw(ports)), (draw(hosts), draw(ports)), draw(tlvs()))


paths = st.binary(max_size=107).filter(lambda path: b"\0" not in path)
unix_headers = st.builds(
    lambda source, destination, extra: ProxyHeader(
        command=Command.PROXY,
        family=Family.UNIX,
        source_path=source,
        destination_path=b"\0" + destination,
        tlvs=extra,
    ),
    paths,
    paths.filter(bool),
    tlvs(),
)

CORPUS = [
    b"",
    b"P",
    b"\r",
    b"GET / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    V1_LINE,
    V1_LINE + b"rest",
    V1_LINE + V1_LINE,
    b"PROXY UNKNOWN\r\nrest",
    b"PROXY TCP4 x\n",
    b"PROXY TCP4 1.2.3.4\rx\n",
    b"PROXY TCP4 " + b"1" * 200,
    b"PROXY UNKNOWN " + b"x" * 90 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY UNKNOWN " + b"x" * 93 + b"\n",
    v2() + b"rest",
    v2(command=0x31),
    v2(command=0x20, family=0xFF) + b"rest",
    v2(family=0x41),
    v2(length=0xFFFF),
    v2(b"", family=0x21),
    v2(INET + b"\x01\x00"),
]


# Splits


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("data", CORPUS)
def test_a_stream_fed_byte_by_byte_ends_as_it_does_in_one_piece(data, required):
    whole = outcome(ProxyParser(policy(required=required)), [data])
    assert outcome(ProxyParser(policy(required=required)), bytewise(data)) == whole


@given(relayed(), st.binary(max_size=30), cuts, st.booleans())
def test_a_header_of_version_2_comes_back_as_it_was_written_over_any_split(header, rest, places, checksum):
    wire = encode_v2(header, checksum=checksum) + rest
    found = outcome(ProxyParser(policy()), cut(wire, places))
    assert ProxyHeader(**found) == ProxyHeader(**_fields(header, version=2, rest=rest))


@given(unix_headers, st.binary(max_size=30), cuts)
def test_paths_of_unix_sockets_come_back_over_any_split(header, rest, places):
    found = outcome(ProxyParser(policy()), cut(encode_v2(header) + rest, places))
    assert ProxyHeader(**found) == ProxyHeader(**_fields(header, version=2, rest=rest))


@given(relayed(), st.binary(max_size=30), cuts)
def test_a_header_of_version_1_comes_back_without_its_tlvs_over_any_split(header, rest, places):
    found = outcome(ProxyParser(policy()), cut(encode_v1(header) + rest, places))
    assert ProxyHeader(**found) == ProxyHeader(**_fields(header, version=1, tlvs=(), rest=rest))


def _fields(header, **changes):
    return {name: getattr(header, name) for name in header.__struct_fields__} | changes


beginnings = st.sampled_from(
    [
        b"",
        b"PROXY ",
        b"PROXY TCP4 ",
        b"PROXY TCP6 ::1 ",
        b"PROXY UNKNOWN",
        V1_LINE[:-2],
        SIGNATURE,
        SIGNATURE + b"\x21\x11\x00",
        SIGNATURE + b"\x21\x11\x00\x20" + INET,
        SIGNATURE + b"\x21\x11\x00\x16" + INET + b"\x03\x00\x04",
        SIGNATURE + b"\x21\x11\x00\x20" + INET + b"\x20\x00\x11",
    ]
)


@given(beginnings, st.binary(max_size=130), cuts, st.booleans())
@example(b"PROXY TCP4 ", b"1\n\r", [12], True)
def test_no_bytes_raise_anything_but_a_violation_and_no_split_changes_the_outcome(begin, more, places, required):
    data = begin + more
    whole = outcome(ProxyParser(policy(required=required)), [data])
    assert outcome(ProxyParser(policy(required=required)), cut(data, places)) == whole
    assert outcome(ProxyParser(policy(required=required)), bytewise(data)) == whole


def test_an_empty_feed_asks_for_more():
    parser = ProxyParser(policy())
    assert parser.feed(b"") is None
    assert parser.feed(V1_LINE[:10]) is None
    assert parser.feed(b"") is None
    assert parser.feed(V1_LINE[10:]).source_host == "192.0.2.7"


# No guessing


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"GET / HTTP/1.1\r\n", 0),
        (b"\x16\x03\x01", 0),
        (b"POST / HTTP/1.1\r\n", 1),
        (b"PRI * HTTP/2.0\r\n", 2),
        (b"proxy TCP4", 0),
        (b"PROXy", 4),
        (b"PROXY\t", 5),
        (b"\r\n\r\nG", 4),
        (SIGNATURE[:-1] + b"\r", 11),
    ],
)
def test_a_stream_that_is_no_header_is_refused_at_its_first_wrong_byte(data, offset):
    parser = ProxyParser(policy())
    for byte in bytewise(data[:offset]):
        assert parser.feed(byte) is None
    with pytest.raises(NoHeader, match=f"byte 0x{data[offset]:02x}"):
        parser.feed(data[offset : offset + 1])


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"\r\n\r\nGET /", b"\x00", b"PROXYING"]
)
def test_where_no_header_is_required_a_stream_without_one_is_passed_on_whole(data):
    passed = outcome(ProxyParser(policy(required=False)), bytewise(data))
    assert passed["rest"] == data
    assert passed["version"] == 0
    assert not ProxyHeader(**passed).relayed


@pytest.mark.parametrize("data", [b"PROXY TCP5 ", b"PROXY GET", v2(command=0x11), v2(family=0x41)])
def test_a_stream_that_begins_as_a_header_has_to_be_one_even_where_none_is_required(data):
    with pytest.raises(ProtocolViolation):
        ProxyParser(policy(required=False)).feed(data)


@pytest.mark.parametrize(("versions", "refused"), [((2,), V1_LINE), ((1,), v2())])
def test_a_version_that_is_not_accepted_is_refused_at_its_first_byte(versions, refused):
    with pytest.raises(NoHeader, match=f"of version {versions[0]}$"):
        ProxyParser(policy(versions=versions)).feed(refused[:1])


@pytest.mark.parametrize(("versions", "accepted"), [((1,), V1_LINE), ((2,), v2())])
def test_one_version_alone_can_be_accepted(versions, accepted):
    assert parse(accepted, versions=versions).source_host == "192.0.2.7"


def test_a_second_header_is_left_in_the_rest():
    """A client behind the proxy that sends a header of its own does not become whom it names."""
    forged = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"
    header = parse(V1_LINE + forged)
    assert header.source_host == "192.0.2.7"
    assert header.rest == forged


# Version 1


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (V1_LINE, ("192.0.2.7", 56324), ("198.51.100.1", 443)),
        (b"PROXY TCP4 255.255.255.255 1.2.3.4 65535 65535\r\n", ("255.255.255.255", 65535), ("1.2.3.4", 65535)),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0), ("0.0.0.0", 0)),
        (b"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", ("2001:db8::1", 1), ("::1", 2)),
        (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff :: 65535 1\r\n", ("ffff:" * 7 + "ffff", 65535), ("::", 1)),
    ],
)
def test_a_line_names_both_ends(line, source, destination):
    header = parse(line)
    assert header.command is Command.PROXY
    assert header.relayed
    assert (header.source_host, header.source_port) == source
    assert (header.destination_host, header.destination_port) == destination


def test_a_mapped_address_may_be_written_with_dots():
    """So inet_ntop writes an IPv4 client of a proxy's dual-stack listener."""
    header = parse(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n")
    assert header.source_host in {"::ffff:c000:207", "::ffff:192.0.2.7"}


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN \r\n",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        b"PROXY UNKNOWN \x00\xff whatever\r\n",
        b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",
    ],
)
def test_unknown_keeps_the_real_addresses_whatever_follows_it(line):
    header = parse(line + b"rest")
    assert not header.relayed
    assert header.source_host == ""
    assert header.rest == b"rest"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "expected TCP4 or TCP6"),
        (b"PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", "expected TCP4 or TCP6"),
        (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "expected TCP4 or TCP6"),
        (b"PROXY TCP4\r\n", "expected TCP4 or TCP6"),
        (b"PROXY UNKNOWNS\r\n", "or UNKNOWN"),
        (b"PROXY UNKNOWN\n", "or UNKNOWN"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "byte 0x0a at offset 30"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r.", "a CR without LF at offset 30"),
        (b"PROXY UNKNOWN a\nb\r\n", "byte 0x0a at offset 15"),
        (b"PROXY UNKNOWN a\rb\r\n", "a CR without LF at offset 15"),
        (b"PROXY UNKNOWN\rb\r\n", "a CR without LF at offset 13"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "byte 0x2d at offset 27"),
        (b"PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n", "byte 0x09 at offset 18"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "byte 0x25 at offset 18"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "expected 4 fields behind the keyword, not 3"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "not 5"),
        (b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", "not 5"),
        (b"PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n", "'1.2.3' is no TCP4 address"),
        (b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "'01.2.3.4' is no TCP4 address"),
        (b"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", "'1.2.3.256' is no TCP4 address"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "'::1' is no TCP4 address"),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "'1.2.3.4' is no TCP6 address"),
        (b"PROXY TCP6 ::1::2 ::1 1 2\r\n", "'::1::2' is no TCP6 address"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "'65536' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", "'00' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "'01' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 a 2\r\n", "'a' is no port"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "'' is no port"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "no CRLF within 107 bytes"),
        (b"PROXY TCP4 " + b"1" * 96, "no CRLF within 107 bytes"),
    ],
)
def test_a_line_that_breaks_a_rule_is_refused_by_name_of_the_rule(line, words):
    for pieces in ([line], bytewise(line)):
        kind, text = outcome(V1Parser(), pieces)
        assert kind is ProtocolViolation
        assert words in text


def test_a_line_is_given_up_as_soon_as_its_crlf_can_no_longer_fit():
    parser = V1Parser()
    assert parser.feed(b"PROXY UNKNOWN " + b"x" * 91) is None
    with pytest.raises(ProtocolViolation, match="107"):
        parser.feed(b"x")


# Version 2


def test_a_block_names_both_ends():
    header = parse(v2() + b"rest")
    assert header == ProxyHeader(
        version=2,
        command=Command.PROXY,
        family=Family.INET,
        source_host="192.0.2.7",
        source_port=56324,
        destination_host="198.51.100.1",
        destination_port=443,
        rest=b"rest",
    )


@pytest.mark.parametrize(
    "wire",
    [
        v2(b"", command=0x20, family=0x00),
        v2(command=0x20),
        v2(b"\x01\xff\xff", command=0x20),
        v2(command=0x20, family=0xFF),
    ],
)
def test_local_keeps_the_real_addresses_and_discards_its_block(wire):
    header = parse(wire + b"rest")
    assert header.command is Command.LOCAL
    assert not header.relayed
    assert header.tlvs == ()
    assert header.rest == b"rest"


@pytest.mark.parametrize("family", [0x00, 0x01, 0x02, 0x10, 0x20, 0x30])
def test_a_block_without_family_or_transport_is_skipped_unread(family):
    header = parse(v2(b"\x01\xff\xffx", family=family) + b"rest")
    assert header.command is Command.PROXY
    assert not header.relayed
    assert header.rest == b"rest"


@pytest.mark.parametrize(("family", "size"), [(0x12, 12), (0x22, 36), (0x32, 216)])
def test_addresses_of_datagrams_are_left_unused(family, size):
    header = parse(v2(bytes(size) + tlv(TlvType.ALPN, b"h3"), family=family))
    assert not header.relayed
    assert header.tlv(TlvType.ALPN) == b"h3"


def test_a_path_ends_at_its_first_zero_byte_but_an_abstract_one_begins_with_one():
    header = parse(v2(b"/run/a\0junk".ljust(108, b"\0") + b"\0a\0b".ljust(108, b"\0"), family=0x31))
    assert header.family is Family.UNIX
    assert (header.source_path, header.destination_path) == (b"/run/a", b"\0a\0b")
    assert header.source_host == ""


@pytest.mark.parametrize(
    ("wire", "needed", "words"),
    [
        (v2(command=0x11), 13, "version 1 behind the signature"),
        (v2(command=0x22), 13, "unassigned command 0x2"),
        (v2(family=0x41), 14, "unassigned address family 0x4"),
        (v2(family=0x13), 14, "unassigned transport 0x3"),
        (v2(length=4081), 16, "a header of 4097 bytes, over the limit of 4096"),
        (v2(INET[:11]), 16, "a block of 11 bytes, where inet addresses need 12"),
        (v2(bytes(35), family=0x21), 16, "inet6 addresses need 36"),
        (v2(bytes(215), family=0x31), 16, "unix addresses need 216"),
        (v2(bytes(11), family=0x12), 16, "inet addresses need 12"),
    ],
)
def test_a_header_that_cannot_be_accepted_is_refused_at_the_byte_that_shows_it(wire, needed, words):
    parser = V2Parser()
    for byte in bytewise(wire[: needed - 1]):
        assert parser.feed(byte) is None
    with pytest.raises(ProtocolViolation, match=words):
        parser.feed(wire[needed - 1 : needed])


def test_the_limit_counts_the_whole_header():
    block = INET + tlv(TlvType.NOOP, bytes(4096 - 16 - 12 - 3))
    assert parse(v2(block) + b"rest").rest == b"rest"
    with pytest.raises(ProtocolViolation, match="limit of 4095"):
        parse(v2(block), max_size=4095)
