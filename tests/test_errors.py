"""How the end of a connection is classified: one function, every case."""

import errno

import pytest
from OpenSSL import SSL
from twisted.internet import error

from netapp.errors import (
    ConfigError,
    DeadlineExceeded,
    Draining,
    End,
    LimitExceeded,
    PeerAborted,
    ProtocolViolation,
    StartupError,
    classify,
)


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        (error.ConnectionDone(), End.PEER_DONE),
        (error.ConnectionLost(), End.PEER_RESET),
        (error.ConnectionAborted(), End.POLICY_LIMIT),
        (error.TimeoutError(), End.PEER_TIMED_OUT),
        (error.TCPTimedOutError(), End.PEER_TIMED_OUT),
        (ConnectionResetError(errno.ECONNRESET, "reset"), End.PEER_RESET),
        (BrokenPipeError(errno.EPIPE, "pipe"), End.PEER_RESET),
        (OSError(errno.ETIMEDOUT, "timed out"), End.PEER_TIMED_OUT),
        (OSError(errno.EHOSTUNREACH, "unreachable"), End.PEER_TIMED_OUT),
        (OSError(errno.EMFILE, "too many files"), End.SYSTEM),
        (OSError(errno.ENOMEM, "no memory"), End.SYSTEM),
        (PermissionError(errno.EACCES, "denied"), End.SYSTEM),
        (MemoryError(), End.SYSTEM),
        (SSL.Error([("ssl", "", "bad record")]), End.PROTOCOL_VIOLATION),
        (ProtocolViolation("bad"), End.PROTOCOL_VIOLATION),
        (PeerAborted("gone"), End.PEER_ABORTED),
        (LimitExceeded("max_body"), End.POLICY_LIMIT),
        (DeadlineExceeded("header_timeout"), End.POLICY_DEADLINE),
        (Draining(), End.POLICY_DRAIN),
        (StartupError("no port"), End.SYSTEM),
        (ZeroDivisionError(), End.INTERNAL),
        (KeyError("x"), End.INTERNAL),
    ],
    ids=lambda value: getattr(value, "value", None) or type(value).__name__,
)
def test_each_reason_has_its_end(reason, end):
    assert classify(reason) is end


def test_why_we_closed_outweighs_what_the_transport_reports():
    """To a transport our own orderly close looks like the peer's."""
    assert classify(error.ConnectionDone(), DeadlineExceeded("idle_timeout")) is End.POLICY_DEADLINE


def test_the_errno_that_a_transport_kept_outweighs_its_general_report():
    assert classify(error.ConnectionLost(), OSError(errno.ETIMEDOUT, "timed out")) is End.PEER_TIMED_OUT


def test_a_configuration_error_keeps_every_problem():
    problems = ConfigError(["a: wrong", "b: wrong"])
    assert problems.problems == ("a: wrong", "b: wrong")
    assert str(problems) == "a: wrong\nb: wrong"
