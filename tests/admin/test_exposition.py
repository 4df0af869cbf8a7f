"""The metrics page: both formats parse, promtool has nothing to say, and one broken instrument costs one sample."""

import shutil
import subprocess
import sys
import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.logger import LogLevel, globalLogPublisher

from netapp.admin import exposition
from netapp.admin.exposition import READ_ERRORS, render
from netapp.telemetry import process
from netapp.telemetry.metrics import Registry

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
def registry():
    registry = Registry()
    connections = registry.counter("netapp_connections_total", "Connections accepted.", ["listener"])
    connections.child("web").inc(3)
    connections.child("echo").inc(4)
    registry.gauge("netapp_open_connections", "Connections open.").child().set(2)
    seconds = registry.histogram("netapp_request_seconds", 'Time to "answer",\nwith \\.', ["route"], bounds=[0.5, 1])
    for value in (0.1, 0.5, 0.7, 30):
        seconds.child("/").observe(value)
    registry.counter("netapp_never_total", "A family without children.", ["why"])
    return registry


@pytest.fixture
def events():
    seen = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


@pytest.fixture
def untraced():
    """Stop the coverage measurement, which makes every line cost three times as much."""
    trace = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(trace)


def samples(registry, accept=""):
    content_type, body = render(registry, accept)
    parse = parse_openmetrics if content_type.startswith("application/openmetrics-text") else parse_text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_every_kind_of_instrument_arrives_with_its_value(registry, accept):
    found = samples(registry, accept)
    expected = {
        ("netapp_connections_total", ("listener", "web")): 3,
        ("netapp_connections_total", ("listener", "echo")): 4,
        ("netapp_open_connections",): 2,
        ("netapp_request_seconds_bucket", ("le", "0.5"), ("route", "/")): 2,
        ("netapp_request_seconds_bucket", ("le", "1.0"), ("route", "/")): 3,
        ("netapp_request_seconds_bucket", ("le", "+Inf"), ("route", "/")): 4,
        ("netapp_request_seconds_count", ("route", "/")): 4,
        ("netapp_request_seconds_sum", ("route", "/")): pytest.approx(31.3),
    }
    assert {key: value for key, value in found.items() if key[0].startswith("netapp_")} == expected


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html", PLAIN),
        ("text/plain", PLAIN),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        (f"text/plain;version=1.0.0;q=0.3, {OPENMETRICS};q=0.5", f"{OPENMETRICS}; charset=utf-8; escaping=underscores"),
        (f"text/plain;version=1.0.0, {OPENMETRICS};q=0.5", "text/plain; version=1.0.0"),
        (f"{OPENMETRICS};q=0", PLAIN),
        (f"{OPENMETRICS};q=nan", PLAIN),
        (f"{OPENMETRICS};q=much", PLAIN),
        ("application/openmetrics-text;version=9.9.9", PLAIN),
        ("application/openmetrics-text;version=x", PLAIN),
        ("application/openmetrics-text;version=0.0.1", PLAIN),
        (";;;=,,=;q", PLAIN),
        (f"application/openmetrics-text;version=2.0.0, {OPENMETRICS};q=0.9", OPENMETRICS),
    ],
)
def test_the_format_is_the_one_the_client_prefers_of_those_there_are(registry, accept, content_type):
    assert render(registry, accept)[0].replace("; ", ";").startswith(content_type.replace("; ", ";"))


def test_what_prometheus_sends_is_answered_with_openmetrics(registry):
    accept = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    content_type, body = render(registry, accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_process_and_interpreter_are_on_the_page(registry, accept):
    found = samples(registry, accept)
    assert found["process_resident_memory_bytes",] == pytest.approx(process.rss_bytes(), rel=0.2)
    assert found["process_virtual_memory_bytes",] > found["process_resident_memory_bytes",]
    assert 0 < found["process_cpu_seconds_total",] <= process.cpu_seconds()
    assert found["process_start_time_seconds",] == pytest.approx(process.start_time())
    assert 0 < found["process_open_fds",] < found["process_max_fds",]
    assert found["python_gc_collections_total", ("generation", "0")] >= 0
    assert sum(1 for key in found if key[0] == "python_info") == 1


def test_without_a_limit_of_descriptors_there_is_no_bound(registry, monkeypatch):
    monkeypatch.setattr(process, "fd_limit", lambda: 0)
    assert samples(registry)["process_max_fds",] == float("inf")


@pytest.mark.parametrize("problem", [lambda: 1 / 0, lambda: None])
def test_a_gauge_that_cannot_be_read_costs_its_sample_alone(registry, events, problem):
    gauge = registry.gauge("netapp_temperature_celsius", "Temperature.", ["of"])
    gauge.child("disk").read = problem
    gauge.child("cpu").set(40)
    for page in (1, 2, 3):
        found = samples(registry)
        assert ("netapp_temperature_celsius", ("of", "disk")) not in found
        assert found["netapp_temperature_celsius", ("of", "cpu")] == 40
        assert found["netapp_open_connections",] == 2
        assert found[READ_ERRORS, ("metric", "netapp_temperature_celsius")] == page
    assert [event["metric"] for event in events if event["log_level"] is LogLevel.critical] == [
        "netapp_temperature_celsius"
    ]


def test_a_family_that_cannot_be_translated_costs_itself_alone(registry, events):
    histogram = registry.histogram("netapp_odd_seconds", "Odd.").child()
    histogram.counts.append(1)
    found = samples(registry)
    assert not [key for key in found if key[0].startswith("netapp_odd_seconds")]
    assert found[READ_ERRORS, ("metric", "netapp_odd_seconds")] == 1


def test_a_registry_that_cannot_be_brought_up_to_date_leaves_the_process(registry, events):
    registry.before_scrape(lambda: 1 / 0)
    found = samples(registry)
    assert found["process_open_fds",] > 0
    assert found[READ_ERRORS, ("metric", "registry")] == 1


def test_a_registry_is_brought_up_to_date_once_a_page(registry):
    refreshed = []
    registry.before_scrape(lambda: refreshed.append(1))
    render(registry)
    assert refreshed == [1]


def test_a_collector_that_fails_costs_its_own_metrics_alone(registry, events, monkeypatch):
    monkeypatch.setattr(process, "rss_bytes", lambda: 1 / 0)
    found = samples(registry)
    assert not [key for key in found if key[0].startswith("process_")]
    assert found[READ_ERRORS, ("metric", "process")] == 1
    assert found["netapp_open_connections",] == 2


def test_names_that_openmetrics_cannot_tell_apart_are_served_as_text(registry, events):
    registry.gauge("netapp_connections", "Beside netapp_connections_total.").child().set(7)
    for _ in range(2):
        assert render(registry, OPENMETRICS)[0] == PLAIN
        assert samples(registry)["netapp_connections",] == 7
    assert [event["metric"] for event in events if event["log_level"] is LogLevel.error] == ["netapp_connections"]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
@pytest.mark.parametrize(
    ("value", "read_back"),
    [('"\\\n', '"\\\n'), ("Grüße", "Grüße"), ("raw\udcff", "raw\\udcff"), ("", "")],
)
def test_any_label_value_survives(value, read_back, accept):
    registry = Registry()
    registry.counter("netapp_a_total", "A.", ["k"]).child(value).inc()
    assert samples(registry, accept)["netapp_a_total", ("k", read_back)] == 1


def test_a_gauge_may_declare_another_one_while_it_is_read():
    registry = Registry()
    family = registry.gauge("netapp_a", "A.", ["k"])
    family.child("x").read = lambda: family.child("y").current()
    assert samples(registry)["netapp_a", ("k", "x")] == 0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_finds_nothing_to_complain_about(registry):
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=render(registry)[1], capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_two_thousand_series_take_less_than_50_ms(accept, untraced):
    registry = Registry()
    family = registry.histogram("netapp_http_request_duration_seconds", "Time to answer.", ["listener", "route"])
    for number in range(118):
        family.child("web", f"/route/{number}").observe(0.01)
    spent = []
    for _ in range(5):
        started = time.thread_time()
        body = render(registry, accept)[1]
        spent.append(time.thread_time() - started)
    assert body.count(b"\nnetapp_http_request_duration_seconds_") >= 2000
    assert min(spent) < 0.05


def test_a_limit_is_written_as_go_writes_it():
    assert exposition._limits((0.5, 1, 2**20)) == ("0.5", "1.0", "1.048576e+06", "+Inf")
