"""What a handshake settled; the only place where a client certificate becomes an identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from netapp.errors import ProtocolViolation
from netapp.listeners.tls.contexts import Contexts, server_name
from netapp.listeners.tls.openssl import was_verified
from netapp.peer import TlsInfo

if TYPE_CHECKING:
    from OpenSSL import SSL

_KINDS: Final = (("DNS", x509.DNSName), ("URI", x509.UniformResourceIdentifier), ("email", x509.RFC822Name))
_UNREADABLE: Final = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What cryptography raises for a certificate that OpenSSL found nothing wrong with."""


def tls_info(connection: SSL.Connection) -> TlsInfo:
    """Describe a connection whose handshake is complete.

    ``subject`` is the client's name as RFC 4514 writes it, ``names`` its alternative ones with their kind, as in
    ``DNS:a.example``, ``URI:spiffe://b``, ``email:c@d.example``: without the kind, an authority that checks one kind
    only could be talked into a name that reads like another. They and ``fingerprint`` are empty unless the
    certificate was verified against the authorities of a :class:`~netapp.listeners.tls.TlsStore`'s policy in this very
    handshake. Raises ProtocolViolation for a verified certificate that cannot be read: such a client is nobody, and
    must not be taken for one without a certificate.
    """
    try:
        subject, names, fingerprint = _identity(_verified(connection))
    except _UNREADABLE as problem:
        raise ProtocolViolation(f"the client's certificate cannot be read: {problem}") from None
    return TlsInfo(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        server_name=server_name(connection) or "",
        alpn=connection.get_alpn_proto_negotiated().decode("latin-1"),
        subject=subject,
        names=names,
        fingerprint=fingerprint,
    )


def _verified(connection: SSL.Connection) -> x509.Certificate | None:
    """Return the client's certificate, if these four agree: whose context it is, what it demands, OpenSSL, its chain.

    Any other context could have a verification callback that nods everything through, and then OpenSSL's own result
    says that all is well.
    """
    contexts = connection.get_context().get_app_data()
    if not (isinstance(contexts, Contexts) and contexts.asks_client and was_verified(connection)):
        return None
    chain = connection.get_verified_chain(as_cryptography=True)
    return chain[0] if chain else None


def _identity(certificate: x509.Certificate | None) -> tuple[str, tuple[str, ...], str]:
    """Return subject, names and fingerprint."""
    if certificate is None:
        return "", (), ""
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return certificate.subject.rfc4514_string(), _names(certificate), fingerprint


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(f"{kind}:{value}" for kind, cls in _KINDS for value in names.get_values_for_type(cls))
