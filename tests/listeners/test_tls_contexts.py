"""Handshakes: versions, ciphers, names, application protocols, sessions. The client is the standard library's."""

from __future__ import annotations

import gc
import shutil
import ssl
import warnings
from contextlib import suppress
from itertools import product

import pytest
from cryptography import x509
from OpenSSL import SSL
from twisted.logger import capturedLogs

from netapp.errors import End, StartupError, classify
from netapp.listeners.tls import TlsPolicy, TlsStore, tls_info
from netapp.listeners.tls.openssl import set_groups
from tests.support.certificates import certificates, client_context
from tests.support.handshake import Visit

V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def a_store(**settings) -> TlsStore:
    """Serve a.example, and nothing else."""
    return TlsStore(TlsPolicy(certificate=str(certificates().server("a.example").both), **settings))


@pytest.fixture
def hosts(tmp_path):
    """A folder with an exact name, a wildcard, and a default."""
    for name, names in {"default": ["d.example"], "w": ["*.w.example"], "x": ["x.w.example", "X2.example"]}.items():
        shutil.copy(certificates().server(*names).both, tmp_path / f"{name}.pem")
    return str(tmp_path)


def lenient(**settings) -> ssl.SSLContext:
    """A client that looks at the certificate, but not at the name in it."""
    context = client_context()
    context.check_hostname = False
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def certificate_for(store, name) -> str:
    """Return the first name of the certificate that a client gets who asks for ``name``."""
    visit = Visit(store, lenient(), name).handshake()
    return visit.client.getpeercert()["subjectAltName"][0][1]


def refused(visit) -> str:
    """Return the alert that the client gets."""
    with pytest.raises(ssl.SSLError) as caught:
        visit.handshake()
    return str(caught.value).lower()


class Handshake:
    """A handshake with OpenSSL's own client, for what the standard library's cannot do."""

    def __init__(self, store, context, name=b"a.example"):
        self.server = store.serverConnectionForTLS(None)
        self.server.set_accept_state()
        self.client = SSL.Connection(context, None)
        self.client.set_connect_state()
        self.client.set_tlsext_host_name(name)

    def finish(self):
        for _ in range(5):
            if self.step(self.client, self.server) & self.step(self.server, self.client):
                return self
        raise AssertionError("the handshake is stuck")

    def step(self, one, other) -> bool:
        """Let ``one`` go on, and carry what it says to ``other``; return whether ``one`` is done."""
        try:
            one.do_handshake()
        except SSL.WantReadError:
            done = False
        else:
            done = True
        self.carry(one, other)
        return done

    def carry(self, one, other):
        with suppress(SSL.WantReadError):
            other.bio_write(one.bio_read(2**16))


@pytest.mark.parametrize(("version", "name"), [(V1_2, "TLSv1.2"), (V1_3, "TLSv1.3")])
def test_tls_1_2_and_1_3_are_spoken(version, name):
    visit = Visit(a_store(), lenient(maximum_version=version)).handshake()
    assert visit.client.version() == name
    assert tls_info(visit.connection).version == name
    visit.exchange(b"x" * 50_000, b"y" * 50_000)


def test_tls_1_1_is_refused():
    context = lenient()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert "protocol version" in refused(Visit(a_store(), context)).replace("_", " ")


def test_tls_1_2_is_refused_where_1_3_is_demanded():
    store = a_store(min_version="1.3")
    assert "protocol version" in refused(Visit(store, lenient(maximum_version=V1_2))).replace("_", " ")
    assert Visit(store, lenient()).handshake().client.version() == "TLSv1.3"


def test_only_the_recommended_ciphers_are_spoken():
    weak = lenient(maximum_version=V1_2)
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:AES128-GCM-SHA256")
    assert "handshake failure" in refused(Visit(a_store(), weak)).replace("_", " ")


def test_the_server_chooses_the_cipher_unless_the_client_has_no_aes():
    def chosen(ciphers: str) -> str:
        context = lenient(maximum_version=V1_2)
        context.set_ciphers(ciphers)
        return Visit(a_store(), context).handshake().client.cipher()[0]

    aes128, aes256, chacha = (
        f"ECDHE-ECDSA-{kind}" for kind in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    )
    assert chosen(f"{aes256}:{aes128}:{chacha}") == aes128
    assert chosen(f"{chacha}:{aes128}") == chacha


def test_the_policys_ciphers_hold_for_both_versions():
    store = a_store(ciphers="TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert Visit(store, lenient()).handshake().client.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    old = Visit(store, lenient(maximum_version=V1_2)).handshake()
    assert old.client.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_the_policys_groups_hold():
    assert Visit(a_store(curves="X25519"), lenient()).handshake()
    only_p256 = lenient()
    only_p256.set_ecdh_curve("prime256v1")
    assert "handshake failure" in refused(Visit(a_store(curves="X25519"), only_p256)).replace("_", " ")
    assert Visit(a_store(), only_p256).handshake()


@pytest.mark.skipif(SSL.OPENSSL_VERSION_NUMBER < 0x30500000, reason="this OpenSSL does not know the group")
def test_keys_are_safe_from_tomorrows_quantum_computers_where_the_client_can():
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    assert Handshake(a_store(), client).finish().server.get_group_name() == "X25519MLKEM768"


def test_names_choose_the_certificate(hosts):
    store = TlsStore(TlsPolicy(directory=hosts))
    expected = {
        "x.w.example": "x.w.example",
        "X.W.Example": "x.w.example",
        "x2.example": "x.w.example",
        "other.w.example": "*.w.example",
        "two.labels.w.example": "d.example",
        "w.example": "d.example",
        "unknown.example": "d.example",
        "d.example": "d.example",
    }
    assert {name: certificate_for(store, name) for name in expected} == expected


def test_of_two_certificates_for_a_name_the_first_by_file_name_is_served(tmp_path):
    for file, names in {"a": ["first.example", "both.example"], "b": ["second.example", "both.example"]}.items():
        shutil.copy(certificates().server(*names).both, tmp_path / f"{file}.pem")
    assert certificate_for(TlsStore(TlsPolicy(directory=str(tmp_path))), "both.example") == "first.example"


def test_without_a_name_the_default_is_served(hosts):
    for strict in (False, True):
        assert certificate_for(TlsStore(TlsPolicy(directory=hosts, strict_sni=strict)), None) == "d.example"


def test_the_certificate_setting_is_the_default_of_a_folder(hosts):
    own = certificates().server("own.example")
    store = TlsStore(TlsPolicy(certificate=str(own.both), directory=hosts))
    assert certificate_for(store, "unknown.example") == "own.example"
    assert certificate_for(store, "x2.example") == "x.w.example"


def test_a_strict_listener_refuses_unknown_names_with_the_alert_for_it(hosts):
    store = TlsStore(TlsPolicy(directory=hosts, strict_sni=True))
    visit = Visit(store, lenient(), "unknown.example")
    assert "unrecognized" in refused(visit)
    assert classify(visit.recorder.reason.value) is End.PROTOCOL_VIOLATION
    assert certificate_for(store, "other.w.example") == "*.w.example"


def test_a_refused_name_prints_nothing(hosts, capfd):
    """Anybody may send a wrong name, and must not fill standard error with tracebacks by it."""
    refused(Visit(TlsStore(TlsPolicy(directory=hosts, strict_sni=True)), lenient(), "unknown.example"))
    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_none_is_not_repeated():
    """It reaches log lines and headers; what is no host name must not."""
    for sent in (b"a\nb.example", b"a b", b"\xffoo", b"..", b"x" * 64):
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        assert tls_info(Handshake(a_store(), client, sent).finish().server).server_name == ""
    assert tls_info(Visit(a_store(), lenient(), "A.Example").handshake().connection).server_name == "a.example"


def test_a_defect_in_choosing_refuses_and_is_logged(hosts, monkeypatch, capfd):
    store = TlsStore(TlsPolicy(directory=hosts))
    monkeypatch.setattr("netapp.listeners.tls.contexts.server_name", lambda connection: 1 // 0)
    with capturedLogs() as events:
        assert "unrecognized" in refused(Visit(store, lenient(), "x2.example"))
    assert "ZeroDivisionError" in repr(events[0]["error"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spoken", "offered", "agreed"),
    [
        (("h2", "http/1.1"), ["http/1.1", "h2"], "h2"),
        (("h2", "http/1.1"), ["http/1.1", "x"], "http/1.1"),
        (("http/1.1",), None, ""),
        ((), ["x"], ""),
    ],
)
def test_alpn_agrees_on_the_first_of_the_servers(spoken, offered, agreed):
    context = lenient()
    if offered:
        context.set_alpn_protocols(offered)
    visit = Visit(a_store(alpn=spoken), context).handshake()
    assert (visit.client.selected_alpn_protocol() or "") == agreed
    assert tls_info(visit.connection).alpn == agreed


def test_alpn_without_a_common_protocol_is_refused_with_the_alert_for_it():
    """RFC 7301 §3.2, and so no protocol can be confused with another (ALPACA)."""
    context = lenient()
    context.set_alpn_protocols(["ftp", "x"])
    visit = Visit(a_store(alpn=("h2", "http/1.1")), context)
    assert "no application protocol" in refused(visit)
    assert visit.closed
    assert classify(visit.recorder.reason.value) is End.PROTOCOL_VIOLATION


def test_alpn_holds_for_every_name(hosts):
    context = lenient()
    context.set_alpn_protocols(["x"])
    assert "no application protocol" in refused(Visit(TlsStore(TlsPolicy(directory=hosts)), context, "x2.example"))


def test_a_client_cannot_renegotiate():
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    handshake = Handshake(a_store(), context).finish()
    assert handshake.client.renegotiate()
    handshake.step(handshake.client, handshake.server)
    with pytest.raises(SSL.WantReadError):
        handshake.server.recv(1)
    handshake.carry(handshake.server, handshake.client)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        handshake.client.do_handshake()


def test_compression_and_renegotiation_are_off_by_name():
    """OpenSSL 3 has both off by default; these hold for a system whose OpenSSL has not."""
    options = a_store().serverConnectionForTLS(None).set_options(0)
    assert options & SSL.OP_NO_COMPRESSION
    assert options & SSL.OP_NO_RENEGOTIATION


def resumes(first, second, version, names=("a.example", "a.example")) -> bool:
    """Whether a session that ``first`` established is resumed by ``second``."""
    context = lenient(maximum_version=version)
    session = Visit(first, context, names[0]).handshake().client.session
    visit = Visit(second, context, names[1], session).handshake()
    return visit.client.session_reused


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_sessions_are_resumed_where_nobody_is_identified(version):
    store = a_store()
    assert resumes(store, store, version)


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_session_without_client_certificate_is_worth_nothing_at_a_host_that_asks_for_one(version):
    """CVE-2025-23419: same address of the client, same names, same certificates, another demand."""
    open_host = a_store()
    for demand in ("optional", "required"):
        closed_host = a_store(client_auth=demand, client_ca=str(certificates().ca))
        identity = certificates().client("me@x.example")
        context = client_context(identity)
        context.maximum_version = version
        session = Visit(open_host, context).handshake().client.session
        visit = Visit(closed_host, context, session=session).handshake()
        assert not visit.client.session_reused
        assert tls_info(visit.connection).fingerprint == identity.fingerprint


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_session_with_a_client_certificate_is_not_resumed_at_all(version, hosts):
    """Neither at its own host, nor at another name of the listener, nor where another authority is trusted."""
    context = client_context(certificates().client("me@x.example"))
    context.check_hostname = False
    context.maximum_version = version
    stores = [
        TlsStore(TlsPolicy(directory=hosts, client_auth=demand, client_ca=str(ca)))
        for demand, ca in [("required", certificates().ca), ("optional", certificates().ca)]
    ]
    for first, second in product(stores, stores):
        for names in product(("d.example", "x2.example"), repeat=2):
            session = Visit(first, context, names[0]).handshake().client.session
            visit = Visit(second, context, names[1], session).handshake()
            assert not visit.client.session_reused, names


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_session_ends_with_the_authority_that_allowed_it(version, tmp_path):
    """A reload that replaces the client CA leaves no way in for those whom the old one vouched for."""
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates().ca, ca)
    store = a_store(client_auth="required", client_ca=str(ca))
    context = client_context(certificates().client("me@x.example"))
    context.maximum_version = version
    session = Visit(store, context).handshake().client.session
    shutil.copy(certificates().other_ca, ca)
    assert store.reload()
    assert "unknown ca" in refused(Visit(store, context, session=session)).replace("_", " ")


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_sessions_stay_with_their_listener_and_their_generation(version):
    store = a_store()
    assert not resumes(store, a_store(), version)
    context = lenient(maximum_version=version)
    session = Visit(store, context).handshake().client.session
    assert store.reload()
    assert not Visit(store, context, session=session).handshake().client.session_reused


def test_a_handshake_that_began_before_a_reload_ends_with_the_certificates_it_began_with(hosts):
    """Even if the first ClientHello is retried, and OpenSSL asks the context that nobody else knows any more."""
    store = TlsStore(TlsPolicy(directory=hosts, curves="prime256v1"))
    client = SSL.Context(SSL.TLS_CLIENT_METHOD)
    set_groups(client, "secp521r1:prime256v1")
    handshake = Handshake(store, client, b"x2.example")
    handshake.step(handshake.client, handshake.server)
    handshake.step(handshake.server, handshake.client)
    for _ in range(3):
        assert store.reload()
        gc.collect()
    handshake.finish()
    assert tls_info(handshake.server).server_name == "x2.example"
    handshake.server.send(b"!")
    handshake.carry(handshake.server, handshake.client)
    assert handshake.client.recv(1) == b"!"


def test_a_certificate_that_openssl_refuses_is_named():
    issued = certificates().signed(x509.DNSName("a.example"), rsa_bits=1024)
    with pytest.raises(StartupError) as caught:
        TlsStore(TlsPolicy(certificate=str(issued.both)))
    assert str(caught.value) == f"{issued.both}: OpenSSL refuses the certificate or its key: ee key too small"


def test_rsa_certificates_are_served():
    issued = certificates().signed(x509.DNSName("a.example"), rsa_bits=2048)
    store = TlsStore(TlsPolicy(certificate=str(issued.both)))
    visit = Visit(store, lenient(maximum_version=V1_2)).handshake()
    assert visit.client.cipher()[0] == "ECDHE-RSA-AES128-GCM-SHA256"


def test_the_chain_is_sent():
    """The client knows the root alone, and still arrives there."""
    issued = certificates().client("a.example", deep=2)
    assert Visit(TlsStore(TlsPolicy(certificate=str(issued.both))), client_context()).handshake()
