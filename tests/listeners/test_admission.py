"""Who is let in: totals, shares, rates, lists. Pure arithmetic, told the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.listeners.admission import Admission, AdmissionPolicy


def admit(admission, host, now=0.0):
    """What a listener does, in its order; return the rule that refused, or None, and the key to leave with."""
    rule = admission.permits(host) or admission.enter(now)
    if rule is not None:
        return rule, ""
    rule, key = admission.identify(host)
    if rule is not None:
        admission.leave("")
    return rule, key


def test_the_total_is_enforced_and_given_back():
    admission = Admission(AdmissionPolicy(max_connections=2))
    assert admit(admission, "192.0.2.1")[0] is None
    _, key = admit(admission, "192.0.2.2")
    assert admit(admission, "192.0.2.3")[0] == "max_connections"
    admission.leave(key)
    assert admit(admission, "192.0.2.3")[0] is None


def test_one_client_cannot_take_everybodys_place():
    admission = Admission(AdmissionPolicy(max_per_client=2))
    assert [admit(admission, "192.0.2.1")[0] for _ in range(3)] == [None, None, "max_per_client"]
    assert admit(admission, "192.0.2.2")[0] is None
    assert admission.open == 3


def test_an_ipv6_client_is_its_64_bit_prefix():
    """One subscriber has 2**64 addresses; counting each would be no limit at all."""
    admission = Admission(AdmissionPolicy(max_per_client=1))
    assert admit(admission, "2001:db8::1")[0] is None
    assert admit(admission, "2001:db8::ffff:2")[0] == "max_per_client"
    assert admit(admission, "2001:db8:0:1::1")[0] is None


def test_an_ipv4_client_is_the_same_behind_a_dual_stack_socket():
    admission = Admission(AdmissionPolicy(max_per_client=1))
    assert admit(admission, "192.0.2.1")[0] is None
    assert admit(admission, "::ffff:192.0.2.1")[0] == "max_per_client"


def test_deny_outweighs_allow_and_allow_shuts_out_the_rest():
    admission = Admission(AdmissionPolicy(allow=("10.0.0.0/8",), deny=("10.6.0.0/16",)))
    assert admission.permits("10.1.2.3") is None
    assert admission.permits("10.6.2.3") == "deny"
    assert admission.permits("192.0.2.1") == "allow"


def test_the_rate_refills_with_time_up_to_the_burst():
    admission = Admission(AdmissionPolicy(accept_rate=8, accept_burst=3))
    assert [admission.enter(100.0) for _ in range(4)] == [None, None, None, "accept_rate"]
    assert admission.enter(100.125) is None
    assert admission.enter(100.125) == "accept_rate"
    assert [admission.enter(200.0) for _ in range(4)] == [None, None, None, "accept_rate"]


def test_a_dry_run_counts_and_lets_everybody_in():
    admission = Admission(AdmissionPolicy(max_connections=1, max_per_client=1, dry_run=True))
    admission.enter(0.0)
    admission.identify("192.0.2.1")
    assert admission.enter(0.0) == "max_connections"
    assert admission.open == 2
    rule, key = admission.identify("192.0.2.1")
    assert (rule, key) == ("max_per_client", "192.0.2.1")
    admission.leave(key)
    assert admission.open == 1


def test_zero_is_no_limit():
    admission = Admission(AdmissionPolicy(max_connections=0, max_per_client=0))
    assert all(admit(admission, "192.0.2.1")[0] is None for _ in range(1000))
    assert admission.clients == 0


@given(st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", ""]), max_size=60))
def test_everything_that_entered_and_left_leaves_no_count_behind(hosts):
    """The counts are released exactly once; a leak would shut the listener in the end."""
    admission = Admission(AdmissionPolicy(max_connections=20, max_per_client=5))
    keys = [key for rule, key in (admit(admission, host) for host in hosts) if rule is None]
    assert admission.open == len(keys)
    for key in keys:
        admission.leave(key)
    assert (admission.open, admission.clients) == (0, 0)


@pytest.mark.parametrize("name", ["max_connections", "max_per_client", "accept_rate", "accept_burst"])
def test_negative_limits_are_refused(name):
    with pytest.raises(ValueError, match=name):
        AdmissionPolicy(**{name: -1})


def test_a_backlog_of_none_is_refused():
    with pytest.raises(ValueError, match="backlog"):
        AdmissionPolicy(backlog=0)


def test_a_network_that_cannot_be_read_is_refused_at_once():
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        AdmissionPolicy(deny=("10.0.0.0/99",))
