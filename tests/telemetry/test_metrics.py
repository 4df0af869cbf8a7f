"""Instruments: what is counted is what was done, and a name means one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.telemetry.metrics import LATENCY_BUCKETS, Counter, Gauge, Histogram, Registry


def test_a_counter_starts_at_nothing_and_adds():
    counter = Counter()
    counter.inc()
    counter.inc(2.5)
    counter.value += 1
    assert counter.value == 4.5


def test_a_gauge_goes_up_and_down():
    gauge = Gauge()
    gauge.set(10)
    gauge.inc()
    gauge.dec(4)
    assert gauge.current() == 7


def test_a_gauge_that_reads_is_asked_each_time_and_forgets_what_was_set():
    answers = iter([3, 5])
    gauge = Gauge()
    gauge.set(99)
    gauge.read = lambda: next(answers)
    assert [gauge.current(), gauge.current()] == [3, 5]


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(-1, 0), (0, 0), (1, 0), (1.0000001, 1), (2, 1), (3, 2), (float("inf"), 2)],
)
def test_a_bucket_holds_values_up_to_and_including_its_bound(value, bucket):
    histogram = Histogram([1, 2])
    histogram.observe(value)
    assert histogram.counts[bucket] == histogram.count == 1


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_a_histogram_loses_no_observation(values):
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))
    for index, bound in enumerate(histogram.bounds):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)


def test_the_default_buckets_rise():
    assert list(LATENCY_BUCKETS) == sorted(set(LATENCY_BUCKETS))


def test_the_same_label_values_give_the_same_child():
    family = Registry().counter("netapp_a_total", "A.", ["listener", "end"])
    assert family.child("web", "done") is family.child("web", "done")
    assert family.child("web", "done") is not family.child("web", "reset")


@pytest.mark.parametrize("values", [(), ("web",), ("web", "done", "more")])
def test_a_child_needs_one_value_for_each_label(values):
    family = Registry().counter("netapp_a_total", "A.", ["listener", "end"])
    with pytest.raises(ValueError, match="netapp_a_total has the labels"):
        family.child(*values)
    assert family.children == {}


def test_a_total_sums_counters_asks_gauges_and_counts_observations():
    registry = Registry()
    counters = registry.counter("netapp_a_total", "A.", ["k"])
    counters.child("x").inc(2)
    counters.child("y").inc(3)
    gauges = registry.gauge("netapp_b", "B.", ["k"])
    gauges.child("x").set(1)
    gauges.child("y").read = lambda: 10
    histograms = registry.histogram("netapp_c_seconds", "C.", bounds=[1])
    histograms.child().observe(0.5)
    histograms.child().observe(7)
    assert [family.total() for family in registry] == [5, 11, 2]


def test_asking_twice_for_a_name_gives_the_same_family():
    registry = Registry()
    assert registry.gauge("netapp_b", "B.") is registry.gauge("netapp_b", "said otherwise")
    assert len(list(registry)) == 1


@pytest.mark.parametrize("declare", [Registry.counter, Registry.histogram])
def test_a_name_of_another_kind_is_refused(declare):
    registry = Registry()
    registry.gauge("netapp_b", "B.")
    with pytest.raises(ValueError, match="already declared as a gauge"):
        declare(registry, "netapp_b", "B.")


def test_a_name_with_other_labels_is_refused():
    registry = Registry()
    registry.gauge("netapp_b", "B.", ["x"])
    with pytest.raises(ValueError, match="with the labels"):
        registry.gauge("netapp_b", "B.", ["y"])


def test_families_may_be_declared_while_they_are_listed():
    registry = Registry()
    registry.gauge("netapp_b", "B.")
    for family in registry:
        registry.gauge(family.name + "_more", "More.")
    assert [family.name for family in registry] == ["netapp_b", "netapp_b_more"]


def test_families_are_brought_up_to_date_before_they_are_listed():
    registry = Registry()
    counter = registry.counter("netapp_a_total", "A.").child()
    registry.before_scrape(counter.inc)
    registry.before_scrape(lambda: registry.gauge("netapp_late", "Declared at the last moment."))
    assert [(family.name, family.total()) for family in registry] == [("netapp_a_total", 1), ("netapp_late", 0)]


def test_a_histogram_takes_its_bounds_from_its_family():
    family = Registry().histogram("netapp_c_bytes", "C.", bounds=[10, 20])
    assert family.child().bounds == (10, 20)
    assert family.child().counts == [0, 0, 0]
