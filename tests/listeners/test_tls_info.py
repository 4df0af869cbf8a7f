"""Client certificates: who gets in, and who is somebody afterwards."""

from __future__ import annotations

import ssl
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from netapp.errors import ProtocolViolation
from netapp.listeners.tls import TlsPolicy, TlsStore, tls_info
from tests.support.certificates import certificates, client_context
from tests.support.handshake import Visit

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def a_store(demand="required", ca=None, **settings) -> TlsStore:
    return TlsStore(
        TlsPolicy(
            certificate=str(certificates().server("a.example").both),
            client_auth=demand,
            client_ca="" if demand == "none" else str(ca or certificates().ca),
            **settings,
        )
    )


def visit(store, identity, version=VERSIONS[1]) -> Visit:
    context = client_context(identity)
    context.maximum_version = version
    return Visit(store, context)


def refused(one) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        one.handshake()
    assert not one.recorder.received
    return str(caught.value).lower().replace("_", " ")


def identity_of(one) -> tuple[str, tuple[str, ...], str]:
    info = tls_info(one.connection)
    return info.subject, info.names, info.fingerprint


NOBODY = ("", (), "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("demand", ["optional", "required"])
def test_a_good_client_certificate_is_an_identity(demand, version):
    issued = certificates().signed(
        x509.RFC822Name("me@x.example"),
        x509.DNSName("x.example"),
        x509.IPAddress(IPv4Address("192.0.2.1")),
        x509.UniformResourceIdentifier("spiffe://x/me"),
        subject="CN=me+UID=7,O=X\\, Ltd",
        usage=x509.ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    subject, names, fingerprint = identity_of(visit(a_store(demand), issued, version).handshake())
    assert subject in {"CN=me+UID=7,O=X\\, Ltd", "UID=7+CN=me,O=X\\, Ltd"}
    assert names == ("DNS:x.example", "URI:spiffe://x/me", "email:me@x.example")
    assert fingerprint == issued.leaf.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_certificate_an_optional_client_is_nobody(version):
    assert identity_of(visit(a_store("optional"), None, version).handshake()) == NOBODY


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_certificate_a_required_client_is_refused(version):
    alert = refused(visit(a_store("required"), None, version))
    assert "certificate required" in alert or "handshake failure" in alert


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("demand", ["optional", "required"])
@pytest.mark.parametrize(
    ("kind", "alert"),
    [
        ("other authority", "unknown ca"),
        ("expired", "certificate expired"),
        ("for servers only", "unsupported certificate"),
        ("too deep", "unknown ca"),
    ],
)
def test_a_bad_client_certificate_is_refused_even_where_none_is_needed(demand, version, kind, alert):
    issued = {
        "other authority": lambda: certificates().client("me@x.example", other_ca=True),
        "expired": lambda: certificates().expired("me@x.example"),
        "for servers only": lambda: certificates().signed(usage=x509.ExtendedKeyUsageOID.SERVER_AUTH),
        "too deep": lambda: certificates().client("me@x.example", deep=3),
    }[kind]()
    assert alert in refused(visit(a_store(demand), issued, version))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_was_not_asked_is_nobody_whatever_it_has(version):
    assert identity_of(visit(a_store("none"), certificates().client("me@x.example"), version).handshake()) == NOBODY


def test_intermediate_authorities_are_allowed_up_to_the_depth():
    deep = certificates().client("me@x.example", deep=2)
    assert identity_of(visit(a_store(), deep).handshake())[2] == deep.fingerprint
    refused(visit(a_store(client_depth=1), deep))
    refused(visit(a_store(client_depth=0), certificates().client("me@x.example", deep=1)))
    assert visit(a_store(client_depth=0), certificates().client("me@x.example")).handshake()


def test_several_authorities_may_be_trusted(tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(certificates().ca.read_bytes() + certificates().other_ca.read_bytes())
    for other in (False, True):
        issued = certificates().client("me@x.example", other_ca=other)
        assert identity_of(visit(a_store(ca=both), issued).handshake())[2] == issued.fingerprint


def test_the_client_is_told_which_authorities_will_do():
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_connect_state()
    server = a_store().serverConnectionForTLS(None)
    server.set_accept_state()
    for one, other in ((client, server), (server, client)):
        with pytest.raises(SSL.WantReadError):
            one.do_handshake()
        other.bio_write(one.bio_read(2**16))
    client.do_handshake()
    told = client.get_client_ca_list(as_cryptography=True)
    assert told == [x509.load_pem_x509_certificate(certificates().ca.read_bytes()).subject]


def test_client_authentication_holds_for_every_name(tmp_path):
    """A switch of contexts does not carry the demand over, so a name could otherwise lose it."""
    for name in ("default", "x"):
        (tmp_path / f"{name}.pem").write_bytes(certificates().server(f"{name}.example").both.read_bytes())
    store = TlsStore(TlsPolicy(directory=str(tmp_path), client_auth="required", client_ca=str(certificates().ca)))
    for name in ("default.example", "x.example"):
        for version in VERSIONS:
            context = client_context()
            context.maximum_version = version
            refused(Visit(store, context, name))
            issued = certificates().client("me@x.example")
            assert identity_of(Visit(store, client_context(issued), name).handshake())[2] == issued.fingerprint


@implementer(IOpenSSLServerConnectionCreator)
class Gullible:
    """A context as somebody else would make it: asks for a certificate, and nods every one through."""

    def __init__(self, app_data=None):
        pair = a_store("none").pairs[0]
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_certificate(pair.certificate)
        self.context.use_privatekey(pair.key)
        self.context.set_app_data(app_data)
        self.context.set_verify(SSL.VERIFY_PEER, lambda *arguments: True)

    def serverConnectionForTLS(self, protocol):
        return SSL.Connection(self.context, None)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_nobody_verified_is_never_an_identity(version):
    """OpenSSL's own result is "all is well" for these, because the callback said so."""
    for issued in (certificates().client("me@x.example", other_ca=True), certificates().client("me@x.example")):
        for app_data in (None, a_store("none")._contexts):
            one = visit(Gullible(app_data), issued, version).handshake()
            assert one.connection.get_peer_certificate(as_cryptography=True) is not None
            assert identity_of(one) == NOBODY


@pytest.mark.parametrize("version", VERSIONS)
def test_each_of_the_conditions_alone_denies_the_identity(version, monkeypatch):
    one = visit(a_store(), certificates().client("me@x.example"), version).handshake()
    assert identity_of(one) != NOBODY
    with monkeypatch.context() as patch:
        patch.setattr("OpenSSL.SSL.Connection.get_verified_chain", lambda *a, **k: None)
        assert identity_of(one) == NOBODY
    with monkeypatch.context() as patch:
        patch.setattr("netapp.listeners.tls.info.was_verified", lambda connection: False)
        assert identity_of(one) == NOBODY
    one.connection.set_verify(SSL.VERIFY_NONE)
    assert identity_of(one) == NOBODY


def test_a_verified_certificate_that_cannot_be_read_is_an_error_and_not_nobody():
    issued = certificates().signed(x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"))
    assert identity_of(visit(a_store(), issued).handshake())[1] == ()
    broken = certificates().signed(raw_names=bytes.fromhex("3004 8202 e978"))
    one = visit(a_store(), broken).handshake()
    with pytest.raises(ProtocolViolation, match="the client's certificate cannot be read"):
        tls_info(one.connection)


def test_a_client_certificate_may_have_a_subject_alone():
    issued = certificates().signed(subject="CN=only")
    assert identity_of(visit(a_store(), issued).handshake()) == ("CN=only", (), issued.fingerprint)


def test_what_was_settled_is_described():
    info = tls_info(visit(a_store("none"), None).handshake().connection)
    assert (info.version, info.cipher, info.server_name) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.example")
