"""The whole way of an event, as the application sets it up."""

import io
import json
import os

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogPublisher, globalLogPublisher
from zope.interface.verify import verifyObject

from netapp.errors import StartupError
from netapp.logs import build_observer
from netapp.telemetry.metrics import Registry


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


@pytest.fixture
def build(clock, path):
    """Build an observer that writes to ``path``; gives a logger, and everything else as attributes."""

    def built(**settings):
        metrics = Registry()
        observer, reopen = build_observer(
            **({"clock": clock, "file": str(path), "metrics": metrics, "now": clock.seconds} | settings)
        )
        log = Logger(namespace="netapp.test", observer=LogPublisher(observer))
        log.all, log.reopen, log.metrics = observer, reopen, metrics
        return log

    return built


def total(log, name):
    return next(family.total() for family in log.metrics if family.name == name)


def test_text_is_for_people_and_the_default(build, path):
    build().info("hello {name}", name="ann")
    assert path.read_text().endswith(" info     [netapp.test] hello ann\n")


def test_json_is_for_machines(build, path):
    build(format="json").info("hello {name}", name="ann")
    assert json.loads(path.read_text())["name"] == "ann"


def test_the_result_is_an_observer(build):
    assert verifyObject(ILogObserver, build().all)


def test_levels_are_by_namespace(build, path):
    log = build(level="warn", levels={"netapp.test": "debug"})
    log.debug("one")
    Logger(namespace="netapp.other", observer=log.all).info("two")
    assert "one" in path.read_text()
    assert "two" not in path.read_text()


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_twisteds_factories_are_news_to_those_who_debug(build, path, level, shown):
    log = build(level=level)
    globalLogPublisher.addObserver(log.all)
    try:
        Factory().doStart()
    finally:
        globalLogPublisher.removeObserver(log.all)
    assert ("Starting factory" in path.read_text()) is shown


def test_a_flood_is_sampled_counted_and_summed_up(build, path, clock):
    log = build(flood_limit=10)
    for _ in range(100):
        log.info("refused")
    clock.advance(5)
    assert path.read_text().count("\n") == 11
    assert "90 similar events were not written in the last 5 s" in path.read_text()
    assert total(log, "netapp_log_suppressed_events_total") == 90


def test_what_the_level_leaves_out_is_no_flood(build):
    log = build(flood_limit=10)
    for _ in range(100):
        log.debug("refused")
    assert total(log, "netapp_log_suppressed_events_total") == 0


def test_the_last_summary_can_be_written_before_the_end(build, path):
    log = build(flood_limit=10)
    for _ in range(100):
        log.info("refused")
    log.all.flush()
    assert "90 similar events" in path.read_text()


def test_a_full_disk_is_counted_and_nobody_notices(build):
    log = build(file="/dev/full")
    for _ in range(3):
        log.info("hello")
    assert total(log, "netapp_log_write_errors_total") == 3


def test_after_rotation_reopen_goes_on_in_the_new_file(build, path):
    log = build()
    path.rename(path.with_suffix(".1"))
    log.reopen()
    log.info("in the new one")
    assert "in the new one" in path.read_text()


def test_a_reopen_that_fails_is_logged_to_the_old_file(build, path):
    log = build()
    globalLogPublisher.addObserver(log.all)
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    try:
        log.reopen()
    finally:
        globalLogPublisher.removeObserver(log.all)
    log.info("still here")
    written = path.with_suffix(".1").read_text()
    assert f"the log file {path} cannot be reopened" in written
    assert "Is a directory" in written
    assert "still here" in written
    assert total(log, "netapp_log_write_errors_total") == 1


def test_without_a_file_it_is_standard_output_whatever_sys_stdout_is(build, capfd, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    log = build(file="")
    log.info("hello")
    log.reopen()
    log.info("again")
    assert [line.split("] ")[1] for line in capfd.readouterr().out.splitlines()] == ["hello", "again"]


def test_a_file_that_cannot_be_opened_is_a_start_up_error(build, tmp_path):
    with pytest.raises(StartupError, match="No such file or directory"):
        build(file=os.fspath(tmp_path / "none" / "app.log"))


def test_a_level_that_does_not_exist_is_refused_before_a_file_is_made(build, path):
    with pytest.raises(ValueError, match="expected a log level"):
        build(level="loud")
    assert not path.exists()


def test_without_a_registry_it_works_as_well(clock, path):
    observer, _ = build_observer(clock=clock, file=str(path))
    Logger(namespace="x", observer=observer).info("hello")
    assert "hello" in path.read_text()
