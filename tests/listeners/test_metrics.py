"""What a listener counts: each once, and what is open only when it is asked for."""

import errno

import pytest

from netapp.errors import End
from netapp.listeners.metrics import CONNECTION_BUCKETS, ListenerMetrics
from netapp.telemetry.metrics import Registry


class Moved:
    """A connection, as far as its counters are concerned."""

    def __init__(self, bytes_in=0, bytes_out=0):
        self.bytes_in, self.bytes_out = bytes_in, bytes_out


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def metrics(registry):
    return ListenerMetrics(registry, "here")


def value(registry, name, *labels):
    [family] = [family for family in registry if family.name == name]
    return family.child("here", *labels).value


def test_bytes_only_grow_while_connections_come_and_go(registry, metrics):
    first, second = Moved(10, 1), Moved(20, 2)
    seen = []
    for step in range(5):
        open_now = {0: [], 1: [first], 2: [first, second], 3: [second], 4: []}[step]
        if step in {3, 4}:
            metrics.closed(first if step == 3 else second, End.PEER_DONE, 1.0)
        metrics.refresh(open_now)
        seen.append([value(registry, f"netapp_{which}_bytes_total") for which in ("received", "sent")])
        assert value(registry, "netapp_connections_open") == len(open_now)
        second.bytes_in += 1
    assert seen == sorted(seen)
    assert seen[2] == [32, 3]


def test_an_end_is_counted_with_its_time(registry, metrics):
    metrics.closed(Moved(), End.PEER_RESET, 0.5)
    metrics.closed(Moved(), End.PEER_RESET, 5000.0)
    assert value(registry, "netapp_connections_ended_total", End.PEER_RESET) == 2
    [family] = [family for family in registry if family.name == "netapp_connection_duration_seconds"]
    histogram = family.child("here")
    assert histogram.sum == 5000.5
    assert histogram.counts[CONNECTION_BUCKETS.index(1.0)] == 1
    assert histogram.counts[-1] == 1


@pytest.mark.parametrize(
    ("number", "label"), [(errno.EMFILE, "EMFILE"), (errno.ENOMEM, "ENOMEM"), (None, "unknown"), (99999, "unknown")]
)
def test_a_pause_is_counted_by_its_error(registry, metrics, number, label):
    error = OSError()
    error.errno = number
    metrics.accept_paused(error)
    assert value(registry, "netapp_accept_pauses_total", label) == 1


def test_refusals_and_those_of_a_dry_run_are_counted_by_rule(registry, metrics):
    metrics.refused("deny")
    metrics.would_refuse("deny")
    metrics.would_refuse("allow")
    assert value(registry, "netapp_connections_refused_total", "deny") == 1
    assert value(registry, "netapp_connections_would_refuse_total", "deny") == 1
    assert value(registry, "netapp_connections_would_refuse_total", "allow") == 1


def test_two_listeners_share_names_and_not_numbers(registry, metrics):
    other = ListenerMetrics(registry, "there")
    metrics.opened.value += 1
    other.refresh([Moved(5, 5)])
    metrics.refresh([])
    assert value(registry, "netapp_connections_opened_total") == 1
    assert value(registry, "netapp_connections_open") == 0
    [family] = [family for family in registry if family.name == "netapp_connections_open"]
    assert family.total() == 1
