"""Files that are rotated, full, gone: the lines that fit are whole, and the old file stays when the new one fails."""

import errno
import os
import stat
import threading

import pytest

from netapp.errors import StartupError
from netapp.logs.files import Descriptor, LogFile
from netapp.telemetry.process import open_fds


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.log"


@pytest.fixture
def log(path):
    log = LogFile(str(path))
    yield log
    log.close()


def test_lines_are_appended_to_what_is_there(path):
    path.write_text("old\n")
    log = LogFile(str(path))
    log.write("new\n")
    log.close()
    assert path.read_text() == "old\nnew\n"


def test_a_new_file_is_for_its_owner_and_its_group(path):
    before = os.umask(0)
    try:
        LogFile(str(path)).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_line_is_in_the_file_as_soon_as_it_is_written(log, path):
    log.write("now\n")
    assert path.read_text() == "now\n"


def test_text_that_utf8_cannot_carry_is_escaped(log, path):
    log.write("Grüße \udcff\n")
    assert path.read_bytes() == "Grüße \\udcff\n".encode()


def test_a_child_process_does_not_inherit_it(log):
    assert not os.get_inheritable(log._fd)
    log.reopen()
    assert not os.get_inheritable(log._fd)


def test_after_rotation_lines_go_to_the_new_file(log, path):
    log.write("one\n")
    path.rename(path.with_suffix(".1"))
    log.write("two\n")
    log.reopen()
    log.write("three\n")
    assert path.with_suffix(".1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_reopening_without_rotation_loses_nothing(log, path):
    log.write("one\n")
    log.reopen()
    log.write("two\n")
    assert path.read_text() == "one\ntwo\n"


def test_the_new_file_takes_the_old_ones_descriptor(log):
    """So no thread ever writes to a closed one, or to whatever else has got its number since."""
    before = log._fd
    log.reopen()
    assert log._fd == before


def test_a_new_file_that_cannot_be_opened_leaves_the_old_one_in_use(log, path):
    aside = path.with_suffix(".1")
    path.rename(aside)
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        log.reopen()
    log.write("still here\n")
    assert aside.read_text() == "still here\n"


def test_reopening_leaks_no_descriptor(log, path):
    descriptors = open_fds()
    for _ in range(5):
        log.reopen()
    assert open_fds() == descriptors


def test_no_line_is_lost_when_another_thread_writes_during_a_rotation(log, path):
    done = threading.Event()

    def write():
        for number in range(2000):
            log.write(f"{number}\n")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    rotations = 0
    while not done.is_set():
        path.rename(path.with_suffix(f".{rotations}"))
        log.reopen()
        rotations += 1
    writer.join()
    lines = [line for file in path.parent.iterdir() for line in file.read_text().splitlines()]
    assert sorted(map(int, lines)) == list(range(2000))


@pytest.mark.parametrize("wrong", ["none/app.log", ""])
def test_a_file_that_cannot_be_opened_at_the_start_is_a_start_up_error(tmp_path, wrong):
    with pytest.raises(StartupError, match=r"the log file .* cannot be opened: "):
        LogFile(str(tmp_path / wrong))


def test_a_line_that_was_cut_is_an_error_and_the_next_one_starts_on_its_own(path, monkeypatch):
    log = LogFile(str(path))
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:4]))
    with pytest.raises(OSError, match="was cut") as caught:
        log.write("a long line\n")
    monkeypatch.undo()
    log.write("whole\n")
    log.write("whole too\n")
    log.close()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "a lo\nwhole\nwhole too\n"


def test_a_full_disk_is_an_error():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            Descriptor(descriptor).write("x\n")
    finally:
        os.close(descriptor)


def test_a_pipe_that_nobody_reads_is_an_error():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            Descriptor(writer).write("x\n")
    finally:
        os.close(writer)


def test_what_is_written_after_closing_is_an_error(path):
    log = LogFile(str(path))
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        log.write("late\n")
