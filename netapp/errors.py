"""Every error netapp raises, and the one place that says how a connection ended.

Whose fault an error was decides what happens next: a peer that broke a protocol's rules is told so and closed,
a limit of ours is counted as a refusal, a missing resource of the system is waited for, and anything else is a
defect of ours that costs one connection and is logged with its traceback.

The exception classes of Twisted are named here, so that no other module needs to know them; nothing else of
Twisted is imported.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from twisted.internet import error as twisted_error

if TYPE_CHECKING:
    from collections.abc import Sequence


class End(StrEnum):
    """How a connection ended. The values are metric labels and log fields, and so never change."""

    PEER_DONE = "peer_done"
    """The peer closed in order."""
    PEER_RESET = "peer_reset"
    """The peer sent RST, or vanished and its kernel said so (ECONNRESET, EPIPE)."""
    PEER_ABORTED = "peer_aborted"
    """The peer closed in the middle of something: a request, a frame, a handshake, a TLS session."""
    PEER_TIMED_OUT = "peer_timed_out"
    """The network gave the peer up (ETIMEDOUT, EHOSTUNREACH, keep-alive probes unanswered)."""
    LOCAL_DONE = "local_done"
    """We closed in order, because the protocol had come to its end."""
    PROTOCOL_VIOLATION = "protocol_violation"
    """The peer broke the rules of the protocol it spoke."""
    POLICY_LIMIT = "policy_limit"
    """A limit of ours was reached: connections, rate, size, access list."""
    POLICY_DEADLINE = "policy_deadline"
    """A deadline of ours passed: header, handshake, idle, write progress."""
    POLICY_DRAIN = "policy_drain"
    """We were shutting down."""
    SYSTEM = "system"
    """The operating system refused a resource (EMFILE, ENOMEM, EACCES …)."""
    INTERNAL = "internal"
    """An exception that nobody foresaw: a defect, logged with its traceback."""


class NetappError(Exception):
    """The root of every error that netapp raises by itself."""

    end: ClassVar[End] = End.INTERNAL


class StartupError(NetappError):
    """The application cannot start: a port that does not bind, a certificate that does not load."""

    end = End.SYSTEM


class ConfigError(NetappError):
    """The configuration is wrong. ``problems`` has one line for each fault, all that were found."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ProtocolViolation(NetappError):  # noqa: N818 - the field's term
    """The peer broke the protocol; the text says which rule and may be sent to it."""

    end = End.PROTOCOL_VIOLATION


class PeerAborted(NetappError):  # noqa: N818 - the field's term
    """The peer closed in the middle of something; the text says of what."""

    end = End.PEER_ABORTED


class Rejected(NetappError):  # noqa: N818 - the field's term
    """We declined. ``rule`` names the limit in metrics and logs."""

    end = End.POLICY_LIMIT

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(detail or rule)
        self.rule = rule


class LimitExceeded(Rejected):
    """A size, a count or a rate went over its limit."""


class Draining(Rejected):
    """We are shutting down and take no more work."""

    end = End.POLICY_DRAIN

    def __init__(self, detail: str = "draining") -> None:
        super().__init__("drain", detail)


class DeadlineExceeded(Rejected):
    """A deadline passed: ``rule`` says which."""

    end = End.POLICY_DEADLINE


_RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN})
_UNREACHABLE = frozenset(
    {
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.ENETRESET,
    }
)

_FOREIGN: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], End], ...] = (
    # Twisted's own classes; the first that fits counts, so a subclass stands before its base
    (twisted_error.ConnectionDone, End.PEER_DONE),
    ((twisted_error.TimeoutError, twisted_error.TCPTimedOutError), End.PEER_TIMED_OUT),
    (twisted_error.ConnectionAborted, End.POLICY_LIMIT),
    (twisted_error.ConnectionLost, End.PEER_RESET),
    (MemoryError, End.SYSTEM),
)


def classify(reason: BaseException, declared: BaseException | None = None) -> End:
    """Say how a connection ended.

    ``reason`` is what the transport reports (``Failure.value``); ``declared`` is why we closed it ourselves, where
    we did, and then decides: to a transport our own orderly close looks like the peer's.
    """
    error = declared if declared is not None else reason
    if isinstance(error, NetappError):
        return error.end
    for classes, end in _FOREIGN:
        if isinstance(error, classes):
            return end
    if isinstance(error, OSError):
        return _classify_errno(error.errno)
    return End.PROTOCOL_VIOLATION if type(error).__module__.startswith("OpenSSL.") else End.INTERNAL


def _classify_errno(number: int | None) -> End:
    if number in _RESET:
        return End.PEER_RESET
    if number in _UNREACHABLE:
        return End.PEER_TIMED_OUT
    return End.SYSTEM
