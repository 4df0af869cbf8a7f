"""One event, one line: readable, parseable, not to be forged, and never an exception."""

import io
import json
import re
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from netapp.logs.observers import json_observer, text_observer
from netapp.peer import Peer

NOON = 1_700_000_000.25


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def text(stream):
    return text_observer(stream)


@pytest.fixture
def machine(stream):
    return json_observer(stream)


@pytest.fixture(params=[text_observer, json_observer])
def observer(request, stream):
    return request.param(stream)


def event(log_format="hello", **fields):
    return {
        "log_format": log_format,
        "log_time": NOON,
        "log_level": LogLevel.info,
        "log_namespace": "netapp.test",
        **fields,
    }


def after_head(line):
    """The part of a text line behind the namespace."""
    return line.partition("[netapp.test] ")[2].rstrip("\n")


def fail():
    raise ValueError("bad\nvalue\x1b[0m")


def failing():
    with pytest.raises(ValueError, match="bad") as caught:
        fail()
    return Failure(caught.value, exc_tb=caught.tb)


def test_it_is_an_observer(observer):
    assert verifyObject(ILogObserver, observer)


class TestText:
    def test_a_line_has_time_level_namespace_and_message(self, text, stream):
        text(event("hello {name}", name="ann"))
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:20\.250[+-]\d\d:\d\d info     \[netapp\.test\] hello ann\n", stream.getvalue()
        )

    def test_the_known_fields_follow_in_their_order(self, text, stream):
        peer = Peer(id="c1", host="192.0.2.1", port=4000)
        text(event("ended", end="peer_done", seconds=1.23456789, bytes_in=10, peer=peer, id="c1", other="unknown"))
        assert (
            after_head(stream.getvalue()) == "ended id=c1 peer=192.0.2.1:4000 bytes_in=10 seconds=1.23457 end=peer_done"
        )

    def test_what_the_message_tells_is_not_told_twice(self, text, stream):
        text(event("{peer.host} did {id!r:>4}", peer=Peer(id="c1", host="192.0.2.1"), id="c1", end="peer_done"))
        assert after_head(stream.getvalue()) == "192.0.2.1 did 'c1' end=peer_done"

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            ("plain", "plain"),
            ("", '""'),
            ("two words", '"two words"'),
            ("a=b", '"a=b"'),
            ('say "x"', '"say \\"x\\""'),
            ("a\\b", '"a\\\\b"'),
            ("x\nforged", '"x\\nforged"'),
            (b"/\xff", '"/\\\\xff"'),
            (0, "0"),
        ],
    )
    def test_a_value_that_could_be_misread_is_quoted(self, text, stream, value, written):
        text(event("asked", path=value))
        assert after_head(stream.getvalue()) == f"asked path={written}"

    def test_a_message_cannot_forge_a_line(self, text, stream):
        text(event("said {words}", words="x\n2026-01-01T00:00:00 critical [netapp] all is lost\x1b[2J\u2028"))
        assert stream.getvalue().count("\n") == 1
        assert "\x1b" not in stream.getvalue()
        assert "\u2028" not in stream.getvalue()

    def test_a_traceback_is_indented_below_and_cannot_forge_a_line_either(self, text, stream):
        text(event("failed", log_failure=failing()))
        first, *below = stream.getvalue().rstrip("\n").split("\n")
        assert first.endswith("failed")
        assert below[0] == "    Traceback (most recent call last):"
        assert below[-1] == "    value\\x1b[0m"
        assert all(line.startswith("    ") for line in below)

    def test_a_stack_is_indented_below(self, text, stream):
        text(event("blocked", stack="one\n\ttwo\n"))
        assert stream.getvalue().endswith("blocked\n    one\n            two\n")

    @pytest.mark.parametrize("log_format", ["{", "{nothing}", "{0}", "{peer.nothing}", None, b"bytes", 7])
    def test_a_format_that_fails_is_still_one_line(self, text, stream, log_format):
        text(event(log_format, peer="p"))
        assert stream.getvalue().count("\n") == 1
        assert text.errors.value == 0

    @given(st.text(), st.text(), st.text())
    def test_one_event_is_one_line_whatever_a_peer_sends(self, message, peer, path):
        stream = io.StringIO()
        text_observer(stream)(event("{message}", message=message, peer=peer, path=path))
        written = stream.getvalue()
        assert written.endswith("\n")
        assert written[:-1].isprintable()


class TestJson:
    def line(self, stream):
        (line,) = stream.getvalue().splitlines()
        return json.loads(line)

    def test_an_event_is_an_object_with_its_fields(self, machine, stream):
        machine(event("hello {name}", name="ann", bytes_in=3, raw=b"\xff", peer=Peer(id="1", host="::1", port=80)))
        assert self.line(stream) == {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "namespace": "netapp.test",
            "message": "hello ann",
            "name": "ann",
            "bytes_in": 3,
            "raw": "\\xff",
            "peer": "[::1]:80",
        }

    def test_a_failure_is_type_message_and_traceback(self, machine, stream):
        machine(event("failed", log_failure=failing()))
        failure = self.line(stream)["failure"]
        assert failure["type"] == "builtins.ValueError"
        assert failure["message"] == "bad\nvalue\x1b[0m"
        assert failure["traceback"].startswith("Traceback (most recent call last):\n")

    def test_a_field_cannot_pretend_to_be_the_head(self, machine, stream):
        machine(event("hello", level="critical", time=0, message="bye", namespace="x"))
        written = self.line(stream)
        assert (written["level"], written["message"], written["namespace"]) == ("info", "hello", "netapp.test")
        assert (written["level_"], written["message_"], written["time_"]) == ("critical", "bye", 0)

    def test_numbers_that_json_has_not_are_null(self, machine, stream):
        machine(event(ratio=float("nan"), limit=float("inf")))
        assert (self.line(stream)["ratio"], self.line(stream)["limit"]) == (None, None)

    def test_an_event_that_cannot_be_written_is_said_to_be_one(self, machine, stream, monkeypatch):
        monkeypatch.setattr("netapp.logs.fields.json_failure", lambda failure: 1 / 0)
        machine(event(log_failure=failing()))
        assert self.line(stream)["message"] == "an event that cannot be written: division by zero"
        assert self.line(stream)["level"] == "info"
        assert machine.errors.value == 0

    @given(st.dictionaries(st.text(), st.text() | st.binary() | st.floats() | st.integers()))
    def test_every_event_is_one_line_of_json(self, fields):
        stream = io.StringIO()
        json_observer(stream)({**fields, **event()})
        assert json.loads(stream.getvalue())["message"] == "hello"
        assert stream.getvalue().count("\n") == 1


class TestWhatTwistedSends:
    def test_a_logger_is_understood(self, machine, stream):
        log = Logger(namespace="netapp.x", observer=machine)
        log.emit(LogLevel.warn, "slow: {seconds}", seconds=3)
        written = json.loads(stream.getvalue())
        assert (written["level"], written["namespace"], written["message"]) == ("warn", "netapp.x", "slow: 3")

    @pytest.fixture
    def observed(self, observer):
        globalLogPublisher.addObserver(observer)
        yield observer
        globalLogPublisher.removeObserver(observer)

    def test_the_old_logging_is_understood(self, observed, stream):
        legacy_log.msg("as in %s", "2002")
        assert "as in" in stream.getvalue()
        assert "isError" not in stream.getvalue()

    def test_an_error_of_the_old_logging_has_its_reason_and_its_traceback(self, observed, stream):
        legacy_log.err(failing(), "while testing")
        assert "while testing" in stream.getvalue()
        assert stream.getvalue().count("Traceback") == 1

    def test_an_error_without_a_reason_is_called_what_twisted_calls_it(self, observed, stream):
        legacy_log.err(failing())
        assert "Unhandled Error" in stream.getvalue()


def test_a_secret_is_in_neither_message_nor_fields(observer, stream):
    observer(event("token {token}", token="hush", path="x", headers=[("Cookie", "hush")]))
    assert "hush" not in stream.getvalue()
    assert "***" in stream.getvalue()


class BrokenStream:
    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), BrokenPipeError(32, "Broken pipe"), ValueError("I/O on closed file")]
)
@pytest.mark.parametrize("make", [text_observer, json_observer])
def test_a_stream_that_fails_costs_the_event_and_is_counted(make, error):
    observer = make(BrokenStream(error))
    publisher = LogPublisher(observer)
    for _ in range(3):
        publisher(event())
    assert observer.errors.value == 3


def test_a_stream_is_flushed_after_each_event(text, stream, monkeypatch):
    flushed = []
    monkeypatch.setattr(stream, "flush", lambda: flushed.append(1))
    observer = text_observer(stream)
    observer(event())
    observer(event())
    assert flushed == [1, 1]


def test_a_stack_of_the_standard_library_reads_as_it_does_there(text, stream):
    text(event("blocked", stack="".join(traceback.format_stack(limit=1))))
    assert re.search(r'\n      File ".*", line \d+, in test_a_stack', stream.getvalue())
