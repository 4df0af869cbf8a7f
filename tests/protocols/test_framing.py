from io import BytesIO
from itertools import pairwise

import pytest
from google.protobuf import proto
from google.protobuf.wrappers_pb2 import BytesValue
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import Int32StringReceiver

from netapp.errors import LimitExceeded, ProtocolViolation
from netapp.protocols.framing import FRAMERS, HEADERS

FRAMINGS = sorted(FRAMERS)
framings = st.sampled_from(FRAMINGS)
bodies = st.lists(st.binary(max_size=300), max_size=12)
cuts = st.lists(st.integers(0, 4000), max_size=20)


def split(data, at):
    edges = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


def framed(framing, frames):
    return b"".join(HEADERS[framing][len(frame)] + frame for frame in frames)


def feed_all(framer, pieces):
    return [frame for piece in pieces for frame in framer.feed(piece)]


@given(framings, bodies, cuts)
def test_no_split_changes_the_frames(framing, frames, at):
    framer = FRAMERS[framing](300)
    assert feed_all(framer, split(framed(framing, frames), at)) == frames
    assert framer.idle
    assert not framer.unfinished
    assert framer.failure is None


@given(framings, st.binary(max_size=60), cuts)
def test_no_split_changes_what_is_made_of_nonsense(framing, data, at):
    whole, pieces = FRAMERS[framing](20), FRAMERS[framing](20)
    assert feed_all(pieces, split(data, at)) == whole.feed(data)
    assert repr(pieces.failure) == repr(whole.failure)
    assert (pieces.idle, pieces.unfinished) == (whole.idle, whole.unfinished)


@given(framings, bodies, st.integers(1, 7))
def test_a_stream_may_arrive_in_drops(framing, frames, size):
    data = framed(framing, frames)
    drops = [data[start : start + size] for start in range(0, len(data), size)]
    assert feed_all(FRAMERS[framing](300), drops) == frames


@given(bodies)
def test_varint_frames_are_those_of_protobufs_delimited_output(values):
    messages = [BytesValue(value=value) for value in values]
    stream = BytesIO()
    for message in messages:
        proto.serialize_length_prefixed(message, stream)
    frames = [message.SerializeToString() for message in messages]
    assert framed("varint", frames) == stream.getvalue()
    assert FRAMERS["varint"](1000).feed(stream.getvalue()) == frames


@given(st.integers(0, 2**31 - 1))
def test_varint_headers_are_read_by_protobuf_as_they_are_written(size):
    header = HEADERS["varint"][size]
    assert BytesValue.FromString(b"\x0a" + HEADERS["varint"][len(header)] + header).value == header
    framer = FRAMERS["varint"](2**31)
    framer.feed(header + b"x" if size else header)
    assert framer._missing == max(size - 1, 0)


@given(bodies)
def test_int32_frames_are_those_of_int32stringreceiver(frames):
    received = []
    receiver = Int32StringReceiver()
    receiver.stringReceived = received.append
    receiver.makeConnection(StringTransport())
    receiver.dataReceived(framed("int32", frames))
    assert received == frames

    for frame in frames:
        receiver.sendString(frame)
    assert FRAMERS["int32"](300).feed(receiver.transport.value()) == frames


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_empty_frame_is_a_frame(framing):
    assert FRAMERS[framing](10).feed(HEADERS[framing][0] * 3) == [b"", b"", b""]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("limit", [5, 127, 128, 1000])
def test_a_frame_at_the_limit_is_taken_and_one_byte_more_is_not(framing, limit):
    largest, larger = b"x" * limit, b"x" * (limit + 1)
    framer = FRAMERS[framing](limit)
    assert framer.feed(framed(framing, [b"a", largest, larger, b"b"])) == [b"a", largest]
    assert isinstance(framer.failure, LimitExceeded)
    assert framer.failure.rule == "max_frame"
    assert str(framer.failure) == f"a frame of {limit + 1} bytes is over the limit of {limit} (max_frame)"


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("drop", [1, 100])
def test_a_frame_over_the_limit_is_refused_at_its_header_and_none_of_it_kept(framing, drop):
    framer = FRAMERS[framing](1000)
    header = HEADERS[framing][2**30]
    assert feed_all(framer, [header[start : start + drop] for start in range(0, len(header), drop)]) == []
    assert isinstance(framer.failure, LimitExceeded)
    assert framer._body is None


@pytest.mark.parametrize("framing", FRAMINGS)
def test_after_a_failure_input_is_ignored(framing):
    framer = FRAMERS[framing](10)
    framer.feed(HEADERS[framing][11])
    failure = framer.failure
    assert framer.feed(framed(framing, [b"abc"])) == []
    assert framer.failure is failure
    assert not framer.idle
    assert not framer.unfinished


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("before", [0, 1, 2, 6])
def test_after_stop_input_is_ignored(framing, before):
    framer = FRAMERS[framing](1000)
    data = framed(framing, [b"x" * 200])
    framer.feed(data[:before])
    framer.stop()
    assert framer.feed(data[before:] + data) == []
    assert (framer.idle, framer.unfinished, framer.failure) == (False, False, None)


@pytest.mark.parametrize("header", [b"\x80\x00", b"\x81\x00", b"\xff\x80\x00", b"\x80\x80\x80\x80\x00"])
def test_a_varint_with_more_bytes_than_it_needs_is_refused(header):
    framer = FRAMERS["varint"](2**31)
    assert framer.feed(b"\x01a" + header) == [b"a"]
    assert isinstance(framer.failure, ProtocolViolation)
    assert "more bytes than it needs" in str(framer.failure)


def test_a_varint_has_five_bytes_at_most():
    framer = FRAMERS["varint"](2**31)
    framer.feed(b"\xff\xff\xff\xff")
    assert framer.failure is None
    framer.feed(b"\x80")
    assert isinstance(framer.failure, ProtocolViolation)
    assert "over 5 bytes" in str(framer.failure)


def test_five_bytes_of_varint_are_a_size():
    framer = FRAMERS["varint"](2**31)
    framer.feed(HEADERS["varint"][2**31])
    assert framer.failure is None
    assert framer._missing == 2**31


@pytest.mark.parametrize("framing", FRAMINGS)
def test_inside_a_header_and_inside_a_body_a_frame_is_unfinished(framing):
    framer = FRAMERS[framing](1000)
    for byte in framed(framing, [b"x" * 200])[:-1]:
        assert framer.feed(bytes([byte])) == []
        assert framer.unfinished
        assert not framer.idle
    assert framer.feed(b"") == []
    assert framer.feed(b"x") == [b"x" * 200]
    assert framer.idle


class Watched(bytes):
    """Counts the bytes that are looked at one by one."""

    looks = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if isinstance(key, slice):
            return Watched(found)
        Watched.looks += 1
        return found


def test_no_byte_is_looked_at_again_in_a_later_read():
    """Of a frame that comes in drops, every header byte is looked at once, and of its body none."""
    Watched.looks = 0
    data = framed("varint", [b"\xff" * 20_000])
    framer = FRAMERS["varint"](20_000)
    looked = []
    for byte in data:
        framer.feed(Watched([byte]))
        looked.append(Watched.looks)
    assert framer.idle
    assert looked[:3] == [2, 3, 4]  # the first one is where the short and the long header part
    assert looked[-1] == 4


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_unfinished_frame_takes_no_more_memory_than_its_bytes(framing):
    framer = FRAMERS[framing](2**20)
    data = framed(framing, [bytes(2**20)])
    for start in range(0, 100_000, 2):
        framer.feed(data[start : start + 2])
    assert framer._body.__sizeof__() < 120_000


def test_long_headers_are_written_anew_each_time():
    headers = HEADERS["varint"]
    assert headers[100_000] == b"\xa0\x8d\x06"
    assert 100_000 not in headers
