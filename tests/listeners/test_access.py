"""Address rules: one host has many spellings, and none of them may make a difference."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from netapp.listeners import access
from netapp.listeners.access import INVALID_KEY, AddressSet, client_key, read_address

NONSENSE = [
    "localhost",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.4 ",
    "1.2.3.4/32",
    "\N{FULLWIDTH DIGIT ONE}.2.3.4",
    "::1%",
    "::1%a%b",
    ":::",
    "[::1]",
    "\0",
    "\ud800",
    "1" * 100_000,
    "::1%" + "x" * 100,
]

v4 = st.ip_addresses(v=4)
v6 = st.ip_addresses(v=6)
cidrs = st.ip_addresses().flatmap(
    lambda address: st.integers(0, address.max_prefixlen).map(
        lambda prefix: str(ip_network((address.packed, prefix), strict=False))
    )
)


# AddressSet


@pytest.mark.parametrize(
    ("written", "inside", "outside"),
    [
        (["192.0.2.0/24"], ["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.7", "::ffff:c000:207"], ["192.0.3.0", "::1"]),
        (["192.0.2.7"], ["192.0.2.7"], ["192.0.2.8"]),
        (["0.0.0.0/0"], ["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], ["::", "::1.2.3.4", ""]),
        (["::/0"], ["::", "::1", "fe80::1%eth0", "64:ff9b::1"], ["1.2.3.4", "::ffff:1.2.3.4"]),
        (["fe80::/10"], ["fe80::1", "fe80::1%eth0", "febf::%1"], ["fec0::1", "fec0::1%eth0"]),
        (["::ffff:10.0.0.0/104"], ["10.1.2.3", "::ffff:10.1.2.3"], ["11.1.2.3", "::ffff:11.1.2.3"]),
        (["::ffff:0:0/96"], ["1.2.3.4"], ["::1"]),
        (["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"], ["10.9.9.9", "127.0.0.1", "2001:db8::1"], ["127.0.0.2", "::1"]),
        ([], [], ["1.2.3.4", "::1", ""]),
    ],
)
def test_a_set_holds_the_hosts_of_its_networks_in_every_spelling(written, inside, outside):
    found = AddressSet(written)
    for _ in range(2):  # the second time they come from the cache
        assert [host for host in inside if host not in found] == []
        assert [host for host in outside if host in found] == []


@given(st.lists(cidrs, max_size=6), st.lists(st.ip_addresses(), max_size=6))
def test_membership_is_that_of_the_networks_one_by_one(written, hosts):
    found = AddressSet(written)
    for host in hosts:
        meant = read_address(str(host))
        assert (str(host) in found) is any(meant in network for network in found.networks)


@example("::/80")
@given(cidrs)
def test_a_network_holds_its_first_and_last_host_and_no_neighbour(cidr):
    found = AddressSet([cidr])
    network = found.networks[0]
    # a wide IPv6 network may end among the IPv4-mapped addresses, and those are never in an IPv6 network
    assume(not any(read_address(str(end)).version != network.version for end in (network[0], network[-1])))
    assert str(network[0]) in found
    assert str(network[-1]) in found
    kind = type(network[0])
    for neighbour in (int(network[0]) - 1, int(network[-1]) + 1):
        if 0 <= neighbour < 2**network.max_prefixlen:
            assert str(kind(neighbour)) not in found


@pytest.mark.parametrize("host", NONSENSE)
def test_what_is_no_address_is_in_no_set_and_raises_nothing(host):
    assert host not in AddressSet(["0.0.0.0/0", "::/0"])
    assert read_address(host) is None


@given(st.text(max_size=70))
def test_no_text_raises(host):
    assert (host in AddressSet(["10.0.0.0/8"])) in {True, False}
    assert isinstance(client_key(host), str)


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "", "fe80::%eth0/64"])
def test_text_that_is_no_network_is_refused(cidr):
    with pytest.raises(ValueError, match="expected a network"):
        AddressSet(["127.0.0.1", cidr])


def test_an_empty_set_is_false():
    assert not AddressSet([])
    assert AddressSet(["::1"])
    assert repr(AddressSet(["::1", "10.0.0.0/8"])) == "AddressSet([::1/128, 10.0.0.0/8])"


def test_a_host_seen_lately_is_not_parsed_again(monkeypatch):
    found = AddressSet(["10.0.0.0/8"])
    assert "10.1.2.3" in found
    monkeypatch.setattr(access, "ip_address", None)
    assert "10.1.2.3" in found


def test_the_cache_is_bounded_and_keeps_no_long_text():
    found = AddressSet(["10.0.0.0/8"])
    for number in range(5000):
        assert str(IPv4Address(0x0A000000 + number)) in found
    assert found._known.cache_info().currsize == 4096
    misses = found._known.cache_info().misses
    assert "1" * 65 not in found
    assert found._known.cache_info().misses == misses


# client_key


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("localhost", INVALID_KEY),
        ("x" * 100, INVALID_KEY),
    ],
)
def test_a_client_is_counted_by_its_address_or_its_64_bit_prefix(host, key):
    assert client_key(host) == key


@given(v6.filter(lambda address: address.ipv4_mapped is None), st.integers(0, 2**64 - 1))
def test_all_addresses_of_one_prefix_have_one_key(address, interface):
    neighbour = IPv6Address(int(address) >> 64 << 64 | interface)
    if neighbour.ipv4_mapped is None:
        assert client_key(str(neighbour)) == client_key(str(address))


@given(v4)
def test_an_ipv4_client_has_one_key_however_it_is_spelt(address):
    assert client_key(f"::ffff:{address}") == client_key(str(address)) == str(address)


@pytest.mark.parametrize("host", NONSENSE)
def test_nonsense_shares_one_key(host):
    assert client_key(host) == INVALID_KEY


def test_keys_of_clients_are_remembered_but_no_long_text_is():
    before = access._client_key.cache_info()
    assert client_key("1" * 65) == INVALID_KEY
    assert access._client_key.cache_info() == before
    assert before.maxsize == 4096


# read_address


@given(st.ip_addresses())
def test_an_address_without_scope_or_mapping_is_itself(address):
    if isinstance(address, IPv4Address) or address.ipv4_mapped is None:
        assert read_address(str(address)) == address


def test_the_longest_spelling_is_read():
    longest = "fe80:0000:0000:0000:0000:0000:255.255.255.255%" + "x" * 15
    assert read_address(longest) == ip_address(longest.partition("%")[0])
