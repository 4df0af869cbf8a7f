"""Certificates, keys and authorities out of PEM files.

Whatever is wrong with a file becomes a :class:`~netapp.errors.StartupError` that begins with the file's path and says
what to do, because it is read by somebody whose service does not start.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from netapp.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from netapp.listeners.tls.policy import TlsPolicy

_KEY: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?-----END \1-----\s*", re.DOTALL)
_EXPECTED: Final = "NAME.pem, NAME.crt with NAME.key, or NAME/fullchain.pem with NAME/privkey.pem"

Look = dict[str, tuple[int, int, int] | None]
"""File → (modified at, in nanoseconds; bytes; inode), or None where there is none. Equal looks: nothing changed."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain and its private key, found to belong together."""

    source: str
    """The certificate's file."""
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes
    names: tuple[str, ...]
    """The DNS names it is for, in lower case, wildcards included."""


def read_pairs(policy: TlsPolicy) -> tuple[KeyPair, ...]:
    """Read every certificate that the policy names, the default one first. Raises StartupError."""
    own = (read_pair(policy.certificate, policy.key),) if policy.certificate else ()
    return own + (_read_folder(policy.directory) if policy.directory else ())


def read_pair(certificate: str, key: str) -> KeyPair:
    """Read one certificate file and its key file, which may be the same. Raises StartupError."""
    leaf, *chain = read_certificates(certificate)
    private = _read_key(key)
    try:
        names, belongs = _dns_names(leaf), leaf.public_key() == private.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as problem:
        raise StartupError(f"{certificate}: the certificate cannot be used: {problem}") from None
    if not belongs:
        raise StartupError(f"{key}: this private key is not the one of the first certificate in {certificate}")
    return KeyPair(certificate, leaf, tuple(chain), private, names)


def read_certificates(path: str) -> tuple[x509.Certificate, ...]:
    """Read all certificates of a PEM file, at least one. Raises StartupError."""
    text = _read(path)
    if b"-----BEGIN CERTIFICATE-----" not in text:
        raise StartupError(f"{path}: no certificate in it; expected PEM, with '-----BEGIN CERTIFICATE-----'")
    try:
        return tuple(x509.load_pem_x509_certificates(text))
    except ValueError as problem:
        raise StartupError(f"{path}: a certificate in it is damaged: {problem}") from None


def look(policy: TlsPolicy) -> Look:
    """Return what can be seen of the policy's files without reading them; symbolic links are followed."""
    single = [policy.certificate, policy.key, policy.client_ca, policy.directory]
    found = {path: _stat(Path(path)) for path in single if path}
    for entry in _glimpse(policy.directory) if policy.directory else ():
        found[entry.path] = _stat(entry)
        found |= {inner.path: _stat(inner) for inner in _glimpse(entry.path)}
    return found


def _glimpse(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing, where it is none or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _stat(file: Path | os.DirEntry[str]) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise StartupError(f"{path}: cannot be read: {problem.strerror}") from None


def _read_key(path: str) -> PrivateKeyTypes:
    found = _KEY.search(_read(path))
    if found is None:
        raise StartupError(f"{path}: no private key in it; expected PEM, with '-----BEGIN PRIVATE KEY-----'")
    try:
        return load_pem_private_key(found[0], password=None)
    except TypeError:
        raise StartupError(
            f"{path}: the private key is encrypted, and there is nobody to ask for its password: "
            "store it decrypted, readable by the server alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise StartupError(f"{path}: the private key is damaged: {problem}") from None


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _read_folder(directory: str) -> tuple[KeyPair, ...]:
    try:
        candidates = list(_candidates(Path(directory)))
    except OSError as problem:
        raise StartupError(f"{problem.filename}: the folder cannot be read: {problem.strerror}") from None
    pairs: list[KeyPair] = []
    problems: list[str] = []
    for name, certificate, key in candidates:
        try:
            pairs.insert(0 if name == "default" else len(pairs), read_pair(str(certificate), str(key)))
        except StartupError as problem:
            problems.append(str(problem))
    if not (pairs or problems):
        problems.append(f"{directory}: no certificate in this folder; expected {_EXPECTED}")
    if problems:
        raise StartupError("\n".join(problems))
    return tuple(pairs)


def _candidates(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, certificate file and key file, in the order of file names.

    Hidden files are left out: editors and orchestrators keep their own things in them.
    """
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        beside = entry.with_suffix(".key")
        if (entry / "fullchain.pem").exists() or (entry / "privkey.pem").exists():
            yield entry.name, entry / "fullchain.pem", entry / "privkey.pem"
        elif entry.suffix == ".crt":
            yield entry.stem, entry, beside
        elif entry.suffix == ".pem":
            yield entry.stem, entry, beside if beside.exists() else entry
