"""Which events are written: the longest prefix decides, and Twisted's chatter is for debugging."""

import pytest
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python import log as legacy_log

from netapp.logs.levels import LevelFilter, demoted, level_named


def event(namespace, level):
    return {"log_namespace": namespace, "log_level": level}


@pytest.mark.parametrize(
    ("namespace", "lowest"),
    [
        ("other", LogLevel.info),
        ("netapp", LogLevel.warn),
        ("netapp.listeners", LogLevel.warn),
        ("netapp.listeners.tls", LogLevel.debug),
        ("netapp.listeners.tls.store", LogLevel.debug),
        ("netapp.listeners.tlsfoo", LogLevel.warn),
        ("netappfoo", LogLevel.info),
        ("", LogLevel.info),
        (None, LogLevel.info),
    ],
)
def test_the_longest_dotted_prefix_decides(namespace, lowest):
    levels = LevelFilter("info", {"netapp": "warning", "netapp.listeners.tls": "debug"})
    for level in LogLevel.iterconstants():
        assert levels.passes(event(namespace, level)) is (level >= lowest)


@pytest.mark.parametrize(("lowest", "passes"), [("info", True), ("warn", False)])
def test_an_event_that_says_nothing_of_itself_is_information(lowest, passes):
    assert LevelFilter(lowest).passes({}) is passes


@pytest.mark.parametrize("name", ["debug", "info", "warn", "error", "critical"])
def test_a_level_has_twisteds_name(name):
    assert level_named(name).name == name


def test_warning_is_warn():
    assert level_named("warning") is LogLevel.warn


@pytest.mark.parametrize("name", ["verbose", "", "INFO", "__class__"])
@pytest.mark.parametrize("make", [LevelFilter, lambda name: LevelFilter("info", {"netapp": name})])
def test_another_name_is_refused_with_those_there_are(make, name):
    with pytest.raises(ValueError, match=r"expected a log level \(debug, info, warn, error, critical\)"):
        make(name)


@pytest.fixture
def events():
    seen = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


def test_factories_that_start_and_stop_are_for_debugging(events):
    factory = Factory()
    factory.doStart()
    factory.doStop()
    assert [demoted(event)["log_level"] for event in events] == [LogLevel.debug, LogLevel.debug]


@pytest.mark.parametrize(
    "text",
    [
        "Site starting on 8080",
        "Site (TLS) starting on 8443",
        "netapp.web.Site starting on '/run/x'",
        "(TCP Port 80 Closed)",
        "(UDP Port 53 Closed)",
        "(Port '/run/x' Closed)",
        "Starting protocol <x>",
        "Stopping protocol <x>",
    ],
)
def test_ports_that_open_and_close_are_for_debugging(events, text):
    legacy_log.msg(text)
    assert demoted(events[0])["log_level"] is LogLevel.debug
    assert events[0]["log_level"] is LogLevel.info


@pytest.mark.parametrize("text", ["the job is starting on Monday", "(the Port is Closed) or not", "hello"])
def test_other_words_keep_their_level(events, text):
    legacy_log.msg(text)
    assert demoted(events[0]) is events[0]


def test_an_error_keeps_its_level_whatever_it_says(events):
    legacy_log.msg("Site starting on 8080", isError=True)
    assert demoted(events[0])["log_level"] is LogLevel.critical
