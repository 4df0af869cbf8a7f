"""Certificates for tests, issued once per test session and written as PEM files: ``certificates().server("a.test")``.

A function and not a fixture, so that parameters of tests can use it, too, and nobody has to import a fixture.
"""

from __future__ import annotations

import atexit
import datetime as dt
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """One certificate as files: ``certificate`` is leaf and chain, ``both`` has the key as well."""

    certificate: Path
    key: Path
    both: Path

    @property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    @property
    def fingerprint(self) -> str:
        return self.leaf.fingerprint(hashes.SHA256()).hex()


class Certificates:
    """An authority and what it issues. The same arguments give the same files; nobody may change those in place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._authority = trustme.CA(organization_name="The tests' authority")
        self._other = trustme.CA(organization_name="Another authority")
        self.ca = folder / "ca.pem"
        self.other_ca = folder / "other-ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self._other.cert_pem.write_to_path(self.other_ca)
        self.server = cache(self._server)
        self.client = cache(self._client)
        self.expired = cache(self._expired)
        self.signed = cache(self._signed)

    def _server(self, *names: str, days: float = 365, generation: int = 1) -> Issued:
        """For DNS names, wildcards or addresses. Another ``generation`` is another certificate for the same names."""
        return self._issue(self._authority, names, days=days)

    def _client(self, *names: str, common_name: str = "", other_ca: bool = False, deep: int = 0) -> Issued:
        """For names such as ``a@b.example``; with ``other_ca`` of an authority that is not :attr:`ca`.

        ``deep``: so many intermediate certificates stand between.
        """
        authority = self._other if other_ca else self._authority
        for _ in range(deep):
            authority = authority.create_child_ca()
        return self._issue(authority, names, common_name=common_name)

    def _expired(self, *names: str) -> Issued:
        """Expired yesterday."""
        return self._issue(self._authority, names, days=-1)

    def _signed(
        self,
        *names: x509.GeneralName,
        subject: str = "CN=somebody",
        usage: x509.ObjectIdentifier | None = None,
        rsa_bits: int = 0,
        raw_names: bytes = b"",
    ) -> Issued:
        """With any kind of name, subject, extended key usage and key, as trustme does not issue them.

        ``raw_names``: the subjectAltName as DER, right or wrong.
        """
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        builder = _builder(x509.Name.from_rfc4514_string(subject), key.public_key(), self._root)
        # RFC 5280 §4.2.1.1 has it in every certificate, and clients from Python 3.13 on insist
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority._private_key.public_key())
        builder = builder.add_extension(authority, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if raw_names:
            raw = x509.UnrecognizedExtension(x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw_names)
            builder = builder.add_extension(raw, critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self._authority._private_key, hashes.SHA256())
        return self._write(
            [certificate.public_bytes(Encoding.PEM)],
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    @property
    def _root(self) -> x509.Name:
        return x509.load_pem_x509_certificate(self.ca.read_bytes()).subject

    def _issue(
        self, authority: trustme.CA, names: Sequence[str], *, common_name: str = "", days: float = 365
    ) -> Issued:
        now = dt.datetime.now(dt.UTC)
        issued = authority.issue_cert(
            *names,
            common_name=common_name or None,
            not_before=min(now, now + days * _DAY) - 30 * _DAY,
            not_after=now + days * _DAY,
        )
        return self._write([pem.bytes() for pem in issued.cert_chain_pems], issued.private_key_pem.bytes())

    def _write(self, chain: Sequence[bytes], key: bytes) -> Issued:
        stem = self._folder / f"{next(self._numbers)}"
        issued = Issued(stem.with_suffix(".crt"), stem.with_suffix(".key"), stem.with_suffix(".pem"))
        issued.certificate.write_bytes(b"".join(chain))
        issued.key.write_bytes(key)
        issued.both.write_bytes(key + b"".join(chain))
        return issued


def _builder(subject: x509.Name, key: CertificatePublicKeyTypes, issuer: x509.Name) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 365 * _DAY)
    )


def client_context(identity: Issued | None = None) -> ssl.SSLContext:
    """The standard library's TLS client, which trusts the tests' authority alone."""
    context = ssl.create_default_context(cafile=str(certificates().ca))
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


@cache
def certificates() -> Certificates:
    """Return the one factory of this test session; its files go when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="netapp-certificates-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Certificates(folder)
