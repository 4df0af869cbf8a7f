"""The few functions of OpenSSL that pyOpenSSL binds but gives no method.

They are reached through ``OpenSSL._util``, as Twisted's own TLS code reaches others. Each has a test that performs a
handshake, so that a release of pyOpenSSL that changes them is noticed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Iterable

_log = Logger()

OP_PRIORITIZE_CHACHA: Final = 1 << 21
"""SSL_CTX_set_options(3): with the server's order of ciphers, a client that lists ChaCha20 first still gets it,
because it says so when it has no AES instructions."""


class Verdict(IntEnum):
    """What becomes of a handshake once its server name is known: SSL_CTX_set_tlsext_servername_callback(3)."""

    SERVE = lib.SSL_TLSEXT_ERR_OK
    SERVE_DEFAULT = lib.SSL_TLSEXT_ERR_NOACK
    """Go on, but do not confirm the name: it was not used (RFC 6066 §3)."""
    REFUSE = lib.SSL_TLSEXT_ERR_ALERT_FATAL
    """End the handshake with the alert unrecognized_name(112)."""


class Chooser(Protocol):
    """Decides by the server name, and switches the connection's context where another one is to serve."""

    def choose(self, connection: SSL.Connection) -> Verdict:
        """Return what becomes of this handshake."""


def set_chooser(context: SSL.Context, chooser: Chooser) -> None:
    """Have ``chooser`` asked in every handshake of ``context``.

    It becomes the context's application data, where the one callback for all finds it. So every context that it
    switches to must have it, too: after a HelloRetryRequest OpenSSL asks again, and the first context, which a reload
    may have dropped meanwhile, lives on only because the chooser knows it. pyOpenSSL's own method cannot refuse a name
    without printing a traceback to standard error.
    """
    context.set_app_data(chooser)
    lib.SSL_CTX_set_tlsext_servername_callback(context._context, _on_server_name)  # noqa: SLF001 - see the module


def set_groups(context: SSL.Context, groups: str) -> None:
    """Set the key exchange groups: names divided by colons, best first. ValueError names one that is not known.

    A name with a leading ``?`` is left out where this OpenSSL does not know it. OpenSSL itself reads that sign since
    3.3 (SSL_CTX_set1_groups_list(3)), and here it works with older ones.
    """
    known = list(_known_groups(context, groups))
    if not known or not _accepts(context, ":".join(known)):
        raise ValueError(f"this OpenSSL knows none of the groups {groups!r}")


def _known_groups(context: SSL.Context, groups: str) -> Iterable[str]:
    for group in groups.split(":"):
        name = group.removeprefix("?")
        if _accepts(context, name):
            yield name
        elif name == group:
            raise ValueError(f"this OpenSSL does not know the group {name!r}")


def _accepts(context: SSL.Context, groups: str) -> bool:
    accepted = bool(groups) and lib.SSL_CTX_set1_curves_list(context._context, groups.encode()) == 1  # noqa: SLF001
    lib.ERR_clear_error()  # or the next failure on this thread would be blamed for it
    return accepted


def was_verified(connection: SSL.Connection) -> bool:
    """Whether OpenSSL asked the peer for a certificate and found nothing wrong with it: SSL_get_verify_result(3).

    That result alone says nothing, because it is also "nothing wrong" where there was no certificate.
    """
    asked = bool(connection.get_verify_mode() & SSL.VERIFY_PEER)
    return asked and lib.SSL_get_verify_result(connection._ssl) == lib.X509_V_OK  # noqa: SLF001 - see the module


def _on_failure(_kind: object, error: BaseException, _traceback: object) -> None:
    _log.error("choosing a certificate failed, and the handshake with it: {error!r}", error=error)


@ffi.callback("int (*)(SSL *, int *, void *)", error=int(Verdict.REFUSE), onerror=_on_failure)  # type: ignore[untyped-decorator]
def _on_server_name(ssl: Any, _alert: Any, _argument: Any) -> int:
    connection = SSL.Connection._reverse_mapping[ssl]  # noqa: SLF001 - see the module
    chooser: Chooser = connection.get_context().get_app_data()
    return int(chooser.choose(connection))
