"""What an operator may say about a listener's TLS."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import force_setattr
from OpenSSL import SSL

from netapp.listeners.tls.openssl import set_groups
from netapp.units import Duration

_CIPHERS: Final = (
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_LONGEST_PROTOCOL: Final = 255
"""Bytes of one ALPN protocol name (RFC 7301 §3.1)."""


class TlsPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a listener speaks TLS. ValueError for a combination that contradicts itself."""

    certificate: str = ""
    """PEM file: the server's certificate first, then the intermediate ones. Also served to clients that name no
    server, or one that no certificate is for."""
    key: str = ""
    """PEM file with the private key, not encrypted; the certificate's file where it is not given."""
    directory: str = ""
    """Folder of certificates, each served for the DNS names of its subjectAltName: ``NAME.pem`` (with the key in it,
    or in ``NAME.key``), ``NAME.crt`` with ``NAME.key``, or ``NAME/fullchain.pem`` with ``NAME/privkey.pem``. Of two
    for the same name the first by file name is served. Without ``certificate`` the one called ``default`` is the
    default, else the first by file name."""
    client_ca: str = ""
    """PEM file of the authorities that may have issued a client's certificate; the root must be among them. No
    other one is trusted, the system's neither."""
    client_auth: Literal["none", "optional", "required"] = "none"
    """Whether a client is asked for a certificate. With ``optional`` it may have none, but a bad one ends the
    handshake. Needs ``client_ca``. Sessions are then not resumed, so that each connection proves its identity."""
    client_depth: Annotated[int, Meta(ge=0, le=10)] = 2
    """How many intermediate certificates may stand between a client's and the authority's. nginx has 1; one more
    fits the usual offline root with a policy and an issuing authority."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The lowest version of TLS. 1.0 and 1.1 are not to be used (RFC 8996)."""
    ciphers: str = _CIPHERS
    """Cipher suites in OpenSSL's notation, divided by colons, best first; those of TLS 1.3 begin with ``TLS_``, and
    without any such they are OpenSSL's. Default: TLSRef guideline 6.0, intermediate, the successor of Mozilla's
    Server Side TLS (https://docs.tlsref.org/server-side-tls.html)."""
    curves: str = "?X25519MLKEM768:X25519:prime256v1:secp384r1"
    """Key exchange groups, divided by colons, best first; one with a leading ``?`` is left out where OpenSSL does not
    know it (X25519MLKEM768 before 3.5). Default: as for ``ciphers``."""
    alpn: tuple[str, ...] = ("http/1.1",)
    """Application protocols, best first. A client that offers some, but none of these, is refused
    (RFC 7301 §3.2); one that offers none is served. Empty: ALPN is not spoken."""
    strict_sni: bool = False
    """Refuse a client that names a server no certificate is for, with the alert unrecognized_name (RFC 6066 §3),
    instead of serving it the default. One that names none still gets the default."""
    handshake_timeout: Duration = 10.0
    """Seconds until the handshake must be complete. nginx allows 60 s (``ssl_handshake_timeout``), in which a silent
    peer holds a connection for nothing; an honest one needs a few round trips."""
    reload_interval: Duration = 10.0
    """Seconds between looks at the files. New ones are taken into service once two looks agree; once a day they are
    read anew in any case, so that the keys of session tickets change (RFC 9325 §3.4). 0: only on SIGHUP."""

    def __post_init__(self) -> None:
        self._check_files()
        self._check_client_auth()
        self._check_alpn()
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        set_ciphers(context, self.ciphers, self.min_version)
        set_groups(context, self.curves)
        if not self.key:
            force_setattr(self, "key", self.certificate)

    @property
    def asks_client(self) -> bool:
        """Whether clients are asked for a certificate."""
        return self.client_auth != "none"

    def _check_files(self) -> None:
        if not (self.certificate or self.directory):
            raise ValueError("expected a certificate, or a directory of them")
        if self.key and not self.certificate:
            raise ValueError("a key is given without its certificate")
        if any("\0" in path for path in (self.certificate, self.key, self.directory, self.client_ca)):
            raise ValueError("the name of a file or folder cannot contain NUL")

    def _check_client_auth(self) -> None:
        if self.asks_client and not self.client_ca:
            raise ValueError(f"client_auth is {self.client_auth!r}, but client_ca is not given")
        if self.client_ca and not self.asks_client:
            raise ValueError("client_ca is given, but client_auth is 'none': say 'optional' or 'required'")

    def _check_alpn(self) -> None:
        for name in self.alpn:
            if not (name.isascii() and 0 < len(name) <= _LONGEST_PROTOCOL):
                raise ValueError(
                    f"expected an ALPN protocol of 1 to {_LONGEST_PROTOCOL} ASCII characters, got {name!r}"
                )


def set_ciphers(context: SSL.Context, ciphers: str, min_version: str) -> None:
    """Set the cipher suites of all versions from one list; ValueError where it leaves a version without any."""
    names = ciphers.split(":")
    modern = ":".join(name for name in names if name.startswith("TLS_"))
    older = ":".join(name for name in names if not name.startswith("TLS_"))
    if not older and min_version != "1.3":
        raise ValueError("ciphers has none for TLS 1.2: add some, or set min_version to '1.3'")
    try:
        if modern:
            context.set_tls13_ciphersuites(modern.encode())
        if older:
            context.set_cipher_list(older.encode())
    except SSL.Error:
        raise ValueError(f"this OpenSSL does not know the ciphers {ciphers!r}") from None
