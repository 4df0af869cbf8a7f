"""Health: each threshold decides, a failing check is an answer, and the worst one speaks for all."""

import json

import msgspec
import pytest

from netapp.telemetry.health import (
    CheckResult,
    Health,
    HealthPolicy,
    Readiness,
    Status,
    Vitals,
    rfc3339,
)

WELL = {
    "event_loop_lag": lambda: 0.001,
    "connections": lambda: 10,
    "connection_limit": lambda: 100,
    "rss": lambda: 50_000_000,
    "open_fds": lambda: 20,
    "fd_limit": lambda: 1000,
    "uptime": lambda: 60.0,
}
MEMORY = HealthPolicy(rss_degraded=100, rss_unhealthy=200)


def health_of(policy=None, timer=lambda: 0.0, **vitals):
    return Health(policy or HealthPolicy(), Vitals(**(WELL | vitals)), version="1.2.3", timer=timer)


def constant(value):
    return lambda: value


def broken():
    raise RuntimeError("the disk is gone")


def test_a_process_that_fares_well_is_healthy():
    report = health_of().report(0)
    assert report.status is Status.HEALTHY
    assert report.decided_by == ()
    assert set(report.checks) == {"event_loop", "memory", "connections", "file_descriptors"}
    assert {check.status for check in report.checks.values()} == {Status.HEALTHY}


@pytest.mark.parametrize(
    ("vital", "value", "check", "status", "policy"),
    [
        ("event_loop_lag", 0.099, "event_loop", "healthy", None),
        ("event_loop_lag", 0.1, "event_loop", "degraded", None),
        ("event_loop_lag", 0.999, "event_loop", "degraded", None),
        ("event_loop_lag", 1.0, "event_loop", "unhealthy", None),
        ("connections", 79, "connections", "healthy", None),
        ("connections", 80, "connections", "degraded", None),
        ("connections", 94, "connections", "degraded", None),
        ("connections", 95, "connections", "unhealthy", None),
        ("open_fds", 799, "file_descriptors", "healthy", None),
        ("open_fds", 800, "file_descriptors", "degraded", None),
        ("open_fds", 949, "file_descriptors", "degraded", None),
        ("open_fds", 950, "file_descriptors", "unhealthy", None),
        ("rss", 99, "memory", "healthy", MEMORY),
        ("rss", 100, "memory", "degraded", MEMORY),
        ("rss", 199, "memory", "degraded", MEMORY),
        ("rss", 200, "memory", "unhealthy", MEMORY),
        ("rss", 10**15, "memory", "healthy", None),
    ],
)
def test_each_threshold_decides_exactly_at_its_value(vital, value, check, status, policy):
    report = health_of(policy, **{vital: constant(value)}).report(0)
    assert report.checks[check].status == status
    assert report.checks[check].value == value
    assert report.status == status
    assert report.decided_by == (() if status == "healthy" else (check,))


@pytest.mark.parametrize(
    ("field", "vital"),
    [("loop_lag", "event_loop_lag"), ("connections", "connections"), ("fds", "open_fds"), ("rss", "rss")],
)
def test_a_threshold_of_0_is_off(field, vital):
    off = HealthPolicy(**{f"{field}_degraded": 0, f"{field}_unhealthy": 0})
    assert health_of(off, **{vital: constant(10**9)}).report(0).status is Status.HEALTHY


def test_without_a_limit_no_number_of_connections_is_too_many():
    report = health_of(connections=constant(10**6), connection_limit=constant(0)).report(0)
    assert report.checks["connections"].status is Status.HEALTHY
    assert report.checks["connections"].detail == "1,000,000 connections are open, without a limit"


def test_the_worst_check_speaks_for_all():
    report = health_of(event_loop_lag=constant(2), connections=constant(85)).report(0)
    assert report.status is Status.UNHEALTHY
    assert report.decided_by == ("event_loop",)


def test_the_detail_says_the_number_in_words():
    checks = health_of(event_loop_lag=constant(0.25), open_fds=constant(812)).report(0).checks
    assert checks["event_loop"].detail == "the event loop is 0.250 s late"
    assert checks["memory"].detail == "48 MiB are resident"
    assert checks["file_descriptors"].detail == "812 of at most 1,000 file descriptors are open"


class TestOwnChecks:
    @pytest.mark.parametrize(("answer", "status"), [(True, "healthy"), (False, "unhealthy")])
    def test_a_bool_is_an_answer(self, answer, status):
        health = health_of()
        health.register("database", constant(answer))
        assert health.report(0).status == status

    def test_a_result_arrives_in_the_report(self):
        health = health_of()
        health.register("queue", constant(CheckResult(Status.DEGRADED, "70 jobs wait", 70)))
        found = health.report(0).checks["queue"]
        assert (found.status, found.detail, found.value) == (Status.DEGRADED, "70 jobs wait", 70)

    def test_a_check_that_raises_is_unhealthy_with_the_text(self):
        health = health_of()
        health.register("disk", broken)
        report = health.report(0)
        assert report.checks["disk"].status is Status.UNHEALTHY
        assert report.checks["disk"].detail == "RuntimeError: the disk is gone"
        assert report.decided_by == ("disk",)

    @pytest.mark.parametrize("answer", [None, "fine", CheckResult("fine")])
    def test_an_answer_that_is_none_is_unhealthy(self, answer):
        health = health_of()
        health.register("odd", constant(answer))
        assert health.report(0).checks["odd"].status is Status.UNHEALTHY

    def test_a_coroutine_is_no_answer_and_is_not_left_behind(self):
        async def check():
            return True

        health = health_of()
        health.register("later", check)
        assert "answered with coroutine" in health.report(0).checks["later"].detail

    @pytest.mark.parametrize("name", ["memory", "mine"])
    def test_a_name_is_taken_once(self, name):
        health = health_of()
        health.register("mine", constant(True))
        with pytest.raises(ValueError, match=f"already a health check named '{name}'"):
            health.register(name, constant(True))

    def test_a_check_can_be_taken_back_even_a_built_in_one(self):
        health = health_of(event_loop_lag=constant(5))
        health.unregister("event_loop")
        assert health.report(0).status is Status.HEALTHY
        with pytest.raises(KeyError):
            health.unregister("event_loop")

    def test_a_check_may_register_another_one_while_it_runs(self):
        health = health_of()
        health.register("first", lambda: health.register("second", constant(True)) or True)
        assert "second" not in health.report(0).checks
        assert "second" in health.report(0).checks


class TestReport:
    def test_it_measures_each_check_and_itself(self):
        ticks = iter(range(100))
        health = health_of(timer=lambda: next(ticks))
        report = health.report(0)
        assert [check.duration_seconds for check in report.checks.values()] == [1, 1, 1, 1]
        assert report.response_time_seconds == 9

    def test_a_vital_that_cannot_be_read_costs_its_check_and_no_more(self):
        report = health_of(connections=broken).report(0)
        assert report.open_connections is None
        assert report.checks["connections"].detail == "RuntimeError: the disk is gone"
        assert report.rss_bytes == 50_000_000

    def test_as_dict_is_json_with_units_in_the_names(self):
        health = health_of()
        health.register("mine", constant(CheckResult(Status.DEGRADED, "so so", 0.5)))
        assert json.loads(json.dumps(health.report(1_700_000_000.1239).as_dict())) == {
            "status": "degraded",
            "decided_by": ["mine"],
            "timestamp": "2023-11-14T22:13:20.123Z",
            "version": "1.2.3",
            "uptime_seconds": 60.0,
            "open_connections": 10,
            "rss_bytes": 50_000_000,
            "event_loop_lag_seconds": 0.001,
            "response_time_seconds": 0.0,
            "checks": {
                "event_loop": {
                    "status": "healthy",
                    "detail": "the event loop is 0.001 s late",
                    "value": 0.001,
                    "duration_seconds": 0.0,
                },
                "memory": {
                    "status": "healthy",
                    "detail": "48 MiB are resident",
                    "value": 50_000_000,
                    "duration_seconds": 0.0,
                },
                "connections": {
                    "status": "healthy",
                    "detail": "10 of at most 100 connections are open",
                    "value": 10,
                    "duration_seconds": 0.0,
                },
                "file_descriptors": {
                    "status": "healthy",
                    "detail": "20 of at most 1,000 file descriptors are open",
                    "value": 20,
                    "duration_seconds": 0.0,
                },
                "mine": {"status": "degraded", "detail": "so so", "value": 0.5, "duration_seconds": 0.0},
            },
        }

    def test_the_real_vitals_of_this_process_can_be_read(self):
        report = Health(HealthPolicy(), Vitals()).report(0)
        assert report.rss_bytes > 1_000_000
        assert report.uptime_seconds > 0
        assert report.checks["file_descriptors"].value > 2
        assert report.response_time_seconds > 0


class TestPolicy:
    @pytest.mark.parametrize("name", ["loop_lag", "rss", "connections", "fds"])
    def test_degraded_is_not_above_unhealthy(self, name):
        with pytest.raises(ValueError, match=f"{name}_degraded .* is above {name}_unhealthy"):
            HealthPolicy(**{f"{name}_degraded": 0.9, f"{name}_unhealthy": 0.5})

    def test_one_threshold_may_be_off(self):
        assert HealthPolicy(loop_lag_unhealthy=0, fds_degraded=0).loop_lag_degraded == 0.1

    def test_a_fraction_is_at_most_1(self):
        with pytest.raises(msgspec.ValidationError, match="<= 1"):
            msgspec.convert({"fds_degraded": 80}, HealthPolicy)

    def test_an_unknown_field_is_refused(self):
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            msgspec.convert({"fd_degraded": 0.5}, HealthPolicy)


class TestReadiness:
    def test_without_a_reason_against_it_one_is_ready(self):
        readiness = Readiness()
        assert readiness.is_ready
        assert readiness.as_dict() == {"ready": True, "reasons": {}}

    def test_every_reason_has_to_go(self):
        readiness = Readiness()
        readiness.not_ready("starting", "listeners are being bound")
        readiness.not_ready("draining", "SIGTERM")
        readiness.ready("starting")
        assert not readiness.is_ready
        assert readiness.as_dict() == {"ready": False, "reasons": {"draining": "SIGTERM"}}
        readiness.ready("draining")
        assert readiness.is_ready

    def test_a_reason_can_be_reworded_and_need_not_exist_to_be_withdrawn(self):
        readiness = Readiness()
        readiness.not_ready("starting", "one")
        readiness.not_ready("starting", "two")
        readiness.ready("never given")
        assert dict(readiness.reasons) == {"starting": "two"}

    def test_the_reasons_are_changed_through_the_methods_only(self):
        with pytest.raises(TypeError):
            Readiness().reasons["starting"] = "no"


def test_a_timestamp_is_utc_with_milliseconds():
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_700_000_000.9999) == "2023-11-14T22:13:20.999Z"
