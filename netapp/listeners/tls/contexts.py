"""One generation of certificates: a context for each, alike in everything else.

OpenSSL begins every handshake in the default context and switches when it has read the server name. A switch takes
the other context's certificate and authorities, but *not* its versions, options, ciphers or demand for a client
certificate (SSL_set_SSL_CTX(3)). So that a name can never weaken a handshake, the contexts of one generation differ in
their certificate alone.

Session resumption happens in the default context as well, before the name is looked at. With real handshakes one sees
that OpenSSL then ignores the session id context of the host that it switches to; that is how client certificates were
bypassed in nginx (CVE-2025-23419). Here a generation that asks for client certificates resumes nothing: no tickets,
no cache. One that does not ask has no identity that a session could smuggle in. Ticket keys are random and never leave
their generation, so that neither another listener nor the generation after a reload resumes its sessions.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, cast

from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL, crypto

from netapp.errors import StartupError
from netapp.listeners.tls.files import read_certificates, read_pairs
from netapp.listeners.tls.openssl import OP_PRIORITIZE_CHACHA, Verdict, set_chooser, set_groups
from netapp.listeners.tls.policy import set_ciphers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from netapp.listeners.tls.files import KeyPair
    from netapp.listeners.tls.policy import TlsPolicy

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_VERIFY: Final = {
    "none": SSL.VERIFY_NONE,
    "optional": SSL.VERIFY_PEER,
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
_OPTIONS: Final = (
    SSL.OP_NO_COMPRESSION  # CRIME
    | SSL.OP_NO_RENEGOTIATION  # a client could make the server work for nothing, and change who it is midway
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | OP_PRIORITIZE_CHACHA
)
_SESSION_SECONDS: Final = 7200
"""How long a session may be resumed, OpenSSL's own default: well under half of the day that a ticket key lives, as
RFC 9325 §3.4 asks."""
_HOST_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.ASCII)


class Contexts:
    """The contexts of one generation. ``pairs``: the default one first, and then by precedence, at least one.

    ``authorities`` are those that client certificates are verified against. Raises StartupError where OpenSSL refuses
    a certificate.
    """

    def __init__(
        self, policy: TlsPolicy, pairs: Sequence[KeyPair], authorities: Sequence[x509.Certificate] = ()
    ) -> None:
        self.pairs = tuple(pairs)
        self.authorities = tuple(authorities)
        self._policy = policy
        self._session_id = _digest(policy.client_auth, *(pair.certificate for pair in pairs), *authorities)
        self._by_name: dict[str, SSL.Context] = {}
        contexts = [self._build(pair) for pair in pairs]
        self.default = contexts[0]
        for pair, context in zip(pairs, contexts, strict=True):
            for name in pair.names:
                self._by_name.setdefault(name, context)

    @classmethod
    def read(cls, policy: TlsPolicy) -> Contexts:
        """Build a generation from the policy's files. Raises StartupError, which names the file at fault."""
        authorities = read_certificates(policy.client_ca) if policy.client_ca else ()
        return cls(policy, read_pairs(policy), authorities)

    @property
    def asks_client(self) -> bool:
        """Whether clients are asked for a certificate, which is then verified against the authorities."""
        return self._policy.asks_client

    def choose(self, connection: SSL.Connection) -> Verdict:
        """Switch ``connection`` to the certificate for the name that the client asks for: exact, wildcard, default."""
        name = server_name(connection)
        if name is None:
            return Verdict.SERVE
        context = self._find(name)
        if context is None:
            return Verdict.REFUSE if self._policy.strict_sni else Verdict.SERVE_DEFAULT
        connection.set_context(context)
        return Verdict.SERVE

    def _find(self, name: str) -> SSL.Context | None:
        # A wildcard stands for exactly one label, the left-most one: RFC 9525 §6.3.
        return self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])

    def _build(self, pair: KeyPair) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._set_rules(context)
        self._set_sessions(context)
        self._set_client_auth(context)
        try:
            context.use_certificate(pair.certificate)
            context.use_privatekey(pair.key)  # type: ignore[arg-type]  # OpenSSL itself refuses kinds it cannot sign with
            for certificate in pair.chain:
                context.add_extra_chain_cert(certificate)
            context.check_privatekey()
        except (SSL.Error, TypeError) as problem:
            raise StartupError(f"{pair.source}: OpenSSL refuses the certificate or its key: {_say(problem)}") from None
        return context

    def _set_rules(self, context: SSL.Context) -> None:
        policy = self._policy
        context.set_min_proto_version(_VERSIONS[policy.min_version])
        context.set_options(_OPTIONS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 34 KB less for each idle connection
        set_ciphers(context, policy.ciphers, policy.min_version)
        set_groups(context, policy.curves)
        set_chooser(context, self)
        if policy.alpn:
            context.set_alpn_select_callback(self._select_protocol)

    def _set_sessions(self, context: SSL.Context) -> None:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_timeout(_SESSION_SECONDS)
        context.set_session_id(self._session_id)
        if self.asks_client:
            context.set_options(SSL.OP_NO_TICKET)

    def _set_client_auth(self, context: SSL.Context) -> None:
        context.set_verify(_VERIFY[self._policy.client_auth])
        context.set_verify_depth(self._policy.client_depth)
        trusted = cast("crypto.X509Store", context.get_cert_store())  # no context is without one
        for authority in self.authorities:
            trusted.add_cert(crypto.X509.from_cryptography(authority))
            context.add_client_ca(authority)

    def _select_protocol(self, _connection: SSL.Connection, offered: list[bytes]) -> bytes:
        for name in self._policy.alpn:
            if name.encode() in offered:
                return name.encode()
        # Raising is what sends no_application_protocol(120): pyOpenSSL's sentinel goes on without a protocol, and an
        # empty name ends in internal_error(80). The shape is that of OpenSSL's own errors, which Twisted unpacks.
        raise SSL.Error([("SSL routines", "", "no application protocol")])


def server_name(connection: SSL.Connection) -> str | None:
    """Return the host name that the client asked for, in lower case; "" for one that is no host name, None for none.

    What is returned is safe to log: the peer chose it, but it has only letters, digits, dots, hyphens, underscores.
    """
    found = connection.get_servername()
    if found is None:
        return None
    name = found.decode("latin-1").lower().removesuffix(".")
    return name if _HOST_NAME.fullmatch(name) else ""


def _digest(demand: str, *certificates: x509.Certificate) -> bytes:
    """Digest of who is served and who is trusted: 32 bytes, the longest session id context there may be."""
    digest = hashlib.sha256(demand.encode())
    for certificate in certificates:
        digest.update(certificate.fingerprint(hashes.SHA256()))
    return digest.digest()


def _say(problem: Exception) -> str:
    """OpenSSL's reason out of its list of (library, function, reason)."""
    queue = problem.args[0] if problem.args else ""
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else str(problem)
