"""What an operator may say about TLS, and what contradicts itself."""

from __future__ import annotations

import msgspec
import pytest
from OpenSSL._util import lib

from netapp.listeners.tls import TlsPolicy


def test_the_key_is_in_the_certificates_file_unless_it_is_given():
    assert TlsPolicy(certificate="a.pem").key == "a.pem"
    assert TlsPolicy(certificate="a.pem", key="a.key").key == "a.key"
    assert TlsPolicy(directory="certificates").key == ""


def test_defaults_are_the_secure_ones():
    policy = TlsPolicy(certificate="a.pem")
    assert (policy.min_version, policy.client_auth, policy.alpn) == ("1.2", "none", ("http/1.1",))
    assert (policy.handshake_timeout, policy.reload_interval) == (10.0, 10.0)
    assert not policy.asks_client


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "expected a certificate, or a directory of them"),
        ({"directory": "d", "key": "k"}, "a key is given without its certificate"),
        ({"directory": "d\0"}, "the name of a file or folder cannot contain NUL"),
        ({"certificate": "c", "client_auth": "required"}, "client_auth is 'required', but client_ca is not given"),
        ({"certificate": "c", "client_auth": "optional"}, "client_auth is 'optional', but client_ca is not given"),
        ({"certificate": "c", "client_ca": "a"}, "client_ca is given, but client_auth is 'none'"),
        ({"certificate": "c", "alpn": ("",)}, "expected an ALPN protocol of 1 to 255 ASCII characters, got ''"),
        ({"certificate": "c", "alpn": ("x" * 256,)}, "expected an ALPN protocol"),
        ({"certificate": "c", "alpn": ("hé",)}, "expected an ALPN protocol"),
        ({"certificate": "c", "ciphers": "NONSENSE"}, "this OpenSSL does not know the ciphers 'NONSENSE'"),
        ({"certificate": "c", "ciphers": "TLS_NONSENSE", "min_version": "1.3"}, "does not know the ciphers"),
        ({"certificate": "c", "ciphers": "TLS_AES_128_GCM_SHA256"}, "ciphers has none for TLS 1.2"),
        ({"certificate": "c", "curves": "X25519:nonsense"}, "this OpenSSL does not know the group 'nonsense'"),
        ({"certificate": "c", "curves": "?nonsense"}, "knows none of the groups '?nonsense'"),
        ({"certificate": "c", "curves": ""}, "this OpenSSL does not know the group ''"),
    ],
)
def test_a_contradiction_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=r"\w") as caught:
        TlsPolicy(**settings)
    assert complaint in str(caught.value)


def test_a_contradiction_in_a_file_is_refused_as_well():
    with pytest.raises(msgspec.ValidationError, match="client_ca is not given"):
        msgspec.convert({"certificate": "c", "client_auth": "required"}, TlsPolicy)


def test_a_group_with_a_question_mark_may_be_unknown():
    assert TlsPolicy(certificate="c", curves="?nonsense:X25519").curves == "?nonsense:X25519"


def test_a_refused_group_leaves_no_error_behind_for_an_innocent_connection():
    """OpenSSL queues errors per thread; "/" is one of the names that it queues one for."""
    with pytest.raises(ValueError, match="does not know the group"):
        TlsPolicy(certificate="c", curves="/")
    assert lib.ERR_peek_error() == 0


def test_tls_1_3_alone_needs_no_older_ciphers():
    assert TlsPolicy(certificate="c", ciphers="TLS_AES_256_GCM_SHA384", min_version="1.3")
    assert TlsPolicy(certificate="c", ciphers="ECDHE-RSA-AES128-GCM-SHA256")


def test_unknown_fields_are_refused():
    with pytest.raises(msgspec.ValidationError, match="cert"):
        msgspec.convert({"cert": "c"}, TlsPolicy)
