"""What a PROXY protocol policy refuses, and its defaults."""

from __future__ import annotations

import msgspec
import pytest

from netapp.listeners.proxyproto import ProxyPolicy


def test_the_defaults_are_those_of_the_specification():
    policy = ProxyPolicy(trusted=("10.0.0.0/8",))
    assert policy.required
    assert policy.timeout == 3.0
    assert policy.versions == (1, 2)
    assert policy.verify_checksum
    assert policy.max_size == 4096


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"trusted": ()}, "needs trusted networks"),
        ({"trusted": ("10.0.0.1/8",)}, "host bits"),
        ({"trusted": ("fe80::%eth0/64",)}, "without a scope"),
        ({"versions": ()}, "needs a version"),
        ({"timeout": 0.0}, "timeout above 0"),
        ({"max_size": 231}, "at least 232 bytes"),
    ],
)
def test_a_policy_under_which_nothing_could_work_cannot_be_made(fields, words):
    with pytest.raises(ValueError, match=words):
        ProxyPolicy(**({"trusted": ("10.0.0.0/8",)} | fields))


def test_trusted_networks_have_no_default():
    with pytest.raises(msgspec.ValidationError, match="trusted"):
        msgspec.convert({}, ProxyPolicy)


def test_an_unknown_version_is_refused_by_the_schema():
    with pytest.raises(msgspec.ValidationError, match="versions"):
        msgspec.convert({"trusted": ["10.0.0.0/8"], "versions": [3]}, ProxyPolicy)


def test_the_largest_addresses_fit_in_the_smallest_limit():
    assert ProxyPolicy(trusted=("::1",), max_size=232).max_size == 232
