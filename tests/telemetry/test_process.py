"""What the process costs, with /proc and without."""

import os
import resource
import time

import pytest

from netapp.telemetry import process


@pytest.fixture
def proc(tmp_path):
    """A folder like /proc/self of a process that was started 100 s after the boot, with 3 descriptors."""
    (tmp_path / "statm").write_bytes(b"5000 1200 300 1 0 900 0\n")
    ticks = 100 * os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_bytes(b"42 (a (name) b) S " + b"0 " * 18 + b"%d 0 0\n" % ticks)
    (tmp_path / "fd").mkdir()
    for number in range(3):
        (tmp_path / "fd" / str(number)).touch()
    return tmp_path


class TestWithProc:
    def test_memory_is_counted_in_pages(self, proc):
        page = resource.getpagesize()
        assert process.rss_bytes(proc) == 1200 * page
        assert process.virtual_bytes(proc) == 5000 * page

    def test_a_name_with_blanks_and_parentheses_does_not_move_the_start(self, proc, monkeypatch):
        monkeypatch.setattr(time, "clock_gettime", lambda clock: 130.0)
        assert process.uptime_seconds(proc) == pytest.approx(30)

    def test_a_start_in_the_future_is_an_age_of_nothing(self, proc, monkeypatch):
        monkeypatch.setattr(time, "clock_gettime", lambda clock: 99.0)
        assert process.uptime_seconds(proc) == 0


class TestDescriptors:
    def test_the_size_of_the_folder_is_their_number(self, proc, monkeypatch):
        monkeypatch.setattr(process, "_entries", lambda folder: pytest.fail("counted one by one"))
        assert process.open_fds(proc) == (proc / "fd").stat().st_size

    def test_an_older_kernel_has_them_counted(self, proc, monkeypatch):
        empty = os.stat_result((0o40000, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        monkeypatch.setattr(type(proc), "stat", lambda path: empty)
        assert process.open_fds(proc) == 3

    def test_another_system_has_another_folder(self, proc, tmp_path):
        assert process.open_fds(tmp_path / "none", proc / "fd") == 3

    def test_no_folder_at_all_is_not_an_error(self, tmp_path):
        assert process.open_fds(tmp_path / "none", tmp_path / "neither") == 0

    def test_one_more_is_one_more(self):
        before = process.open_fds()
        descriptor = os.dup(0)
        try:
            assert process.open_fds() == before + 1
        finally:
            os.close(descriptor)

    @pytest.mark.parametrize(("soft", "limit"), [(1024, 1024), (resource.RLIM_INFINITY, 0)])
    def test_the_limit_is_the_soft_one_and_unlimited_is_0(self, soft, limit, monkeypatch):
        monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, resource.RLIM_INFINITY))
        assert process.fd_limit() == limit


class TestWithoutProc:
    def test_memory_is_the_peak_that_getrusage_knows(self, tmp_path):
        assert process.rss_bytes(tmp_path) > 1_000_000
        assert process.virtual_bytes(tmp_path) == 0

    @pytest.mark.parametrize("content", [b"", b"nonsense", b"1 x y"])
    def test_a_file_that_makes_no_sense_is_as_none(self, tmp_path, content):
        for name in ("statm", "stat"):
            (tmp_path / name).write_bytes(content)
        assert process.rss_bytes(tmp_path) > 1_000_000
        assert process.uptime_seconds(tmp_path) >= 0

    def test_the_age_is_that_of_the_module(self, tmp_path, monkeypatch):
        monkeypatch.setattr(process, "_STARTED", time.time() - 50)
        assert process.uptime_seconds(tmp_path) == pytest.approx(50, abs=1)


def test_cpu_time_grows_with_work():
    before = process.cpu_seconds()
    while process.cpu_seconds() == before:
        sum(range(1000))


def test_the_start_is_the_same_instant_at_every_call():
    assert process.start_time() == process.start_time()
    assert process.start_time() == pytest.approx(time.time() - process.uptime_seconds(), abs=1)
