"""The monitor and its watchdog, with a clock that stands still and stacks that are made up."""

import sys
import threading
import time
from types import SimpleNamespace

import pytest
from twisted.application.service import IService
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from netapp.monitor import loop as module
from netapp.monitor.blocks import Block, LoopPolicy
from netapp.monitor.loop import LoopMonitor, Watchdog, cpu_clock, describe, is_waiting, suspended_seconds
from netapp.telemetry.metrics import Registry

WAITING = SimpleNamespace(f_globals={"__name__": "twisted.internet.epollreactor"})


class FakeLoop(Clock):
    """A reactor's time, and its calls from threads, which wait until :meth:`turn`."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def callFromThread(self, call, *args):
        self.asked.append((call, args))

    def turn(self):
        asked, self.asked = self.asked, []
        for call, args in asked:
            call(*args)


@pytest.fixture
def loop():
    return FakeLoop()


@pytest.fixture
def events():
    seen = []
    globalLogPublisher.addObserver(seen.append)
    yield seen
    globalLogPublisher.removeObserver(seen.append)


def busy():
    return sys._getframe()


class TestWatchdog:
    @pytest.fixture
    def frames(self, monkeypatch):
        """Choose what the loop's thread is doing with ``frames.now``."""
        frames = SimpleNamespace(now=WAITING)
        monkeypatch.setattr(sys, "_current_frames", lambda: {threading.get_ident(): frames.now} if frames.now else {})
        monkeypatch.setattr(module, "cpu_clock", lambda thread: lambda: frames.cpu)
        frames.cpu = 0.0
        return frames

    @pytest.fixture
    def blocks(self):
        return []

    @pytest.fixture
    def watchdog(self, loop, frames, blocks):
        return Watchdog(loop, LoopPolicy(), blocks.append, loop.seconds)

    def look(self, watchdog, loop, times=1):
        for _ in range(times):
            loop.advance(0.05)
            watchdog.look()

    def test_a_loop_that_waits_is_left_in_peace(self, watchdog, loop):
        self.look(watchdog, loop, times=50)
        assert loop.asked == []

    def test_a_loop_at_work_that_answers_is_not_blocked(self, watchdog, loop, frames, blocks):
        frames.now = busy()
        for _ in range(50):
            self.look(watchdog, loop)
            loop.turn()
        assert blocks == []

    def test_a_loop_at_work_is_asked_once(self, watchdog, loop, frames):
        frames.now = busy()
        self.look(watchdog, loop, times=50)
        assert len(loop.asked) == 1

    def test_one_that_does_not_answer_is_blocked_until_it_does(self, watchdog, loop, frames, blocks):
        self.look(watchdog, loop, times=10)
        frames.now = busy()
        self.look(watchdog, loop, times=6)
        loop.advance(0.02)
        loop.turn()
        frames.now = WAITING
        self.look(watchdog, loop)
        assert blocks == []
        loop.turn()
        (block,) = blocks
        assert block.seconds == pytest.approx(0.32)
        assert ", in busy\n" in block.stack

    def test_waiting_is_no_sign_of_life_while_a_question_is_open(self, watchdog, loop, frames, blocks):
        """It has not come around to the answer: what it waits in may be a poll of its own."""
        frames.now = busy()
        self.look(watchdog, loop, times=2)
        frames.now = WAITING
        self.look(watchdog, loop, times=6)
        loop.turn()
        self.look(watchdog, loop)
        loop.turn()
        assert blocks[0].seconds == pytest.approx(0.4)

    def test_a_watchdog_that_could_not_look_goes_by_processor_time(self, watchdog, loop, frames, blocks):
        self.look(watchdog, loop)
        loop.advance(0.7)
        frames.cpu = 0.7
        self.look(watchdog, loop)
        loop.turn()
        assert [(round(block.seconds, 2), block.stack) for block in blocks] == [(0.75, "")]

    def test_a_process_that_was_stopped_was_not_blocked(self, watchdog, loop, blocks):
        self.look(watchdog, loop)
        loop.advance(60)
        self.look(watchdog, loop)
        loop.turn()
        assert blocks == []

    def test_a_machine_that_slept_was_not_blocked(self, watchdog, loop, frames, blocks, monkeypatch):
        frames.now = busy()
        self.look(watchdog, loop, times=5)
        slept = suspended_seconds()
        monkeypatch.setattr(module, "suspended_seconds", lambda: slept + 60)
        loop.turn()
        self.look(watchdog, loop)
        loop.turn()
        assert blocks == []

    def test_a_thread_that_is_gone_is_nothing_to_look_at(self, watchdog, loop, frames):
        frames.now = None
        self.look(watchdog, loop, times=5)
        assert loop.asked == []

    def test_it_can_be_stopped_before_it_runs(self, watchdog):
        watchdog.stop()

    def test_it_runs_until_it_is_stopped(self, watchdog, monkeypatch):
        looked = threading.Event()
        monkeypatch.setattr(watchdog, "look", looked.set)
        watchdog.start()
        assert looked.wait(5)
        watchdog.stop()
        assert not watchdog.is_alive()


class TestMonitor:
    @pytest.fixture
    def metrics(self):
        return Registry()

    @pytest.fixture
    def late(self):
        """Seconds by which the loop is behind the clock that it goes by."""
        return [0.0]

    @pytest.fixture
    def monitor(self, loop, metrics, late, monkeypatch):
        monkeypatch.setattr(Watchdog, "start", lambda watchdog: None)
        monitor = LoopMonitor(loop, metrics, now=lambda: loop.seconds() + late[0])
        monitor.startService()
        yield monitor
        if monitor.running:
            monitor.stopService()

    def value(self, metrics, name):
        return next(family.total() for family in metrics if family.name == name)

    def test_it_is_a_service(self, monitor):
        assert verifyObject(IService, monitor)

    def test_a_loop_in_time_has_no_lag(self, monitor, loop, metrics):
        loop.pump([0, *[0.1] * 20])
        assert monitor.lag() == pytest.approx(0, abs=1e-9)
        assert self.value(metrics, "netapp_event_loop_delay_seconds") == 20

    def test_a_timer_that_comes_late_is_the_lag_which_then_fades(self, monitor, loop, metrics, late):
        loop.advance(0)
        late[0] = 0.5
        loop.advance(0.1)
        assert monitor.lag() == pytest.approx(0.5)
        assert self.value(metrics, "netapp_event_loop_lag_seconds") == pytest.approx(0.5)
        loop.pump([0.1] * 50)
        assert monitor.lag() == pytest.approx(0.5 / 2.718, rel=0.01)

    def test_a_timer_that_comes_early_is_no_negative_lag(self, monitor, loop, metrics, late):
        loop.advance(0)
        late[0] = -3600
        loop.advance(0.1)
        assert monitor.lag() == 0
        assert next(family.child().sum for family in metrics if family.kind == "histogram") == 0

    @pytest.fixture
    def block(self, monitor, loop, late):
        """Tell the monitor of a block that held its timers up, as one does."""

        def block(told):
            loop.advance(0)
            late[0] += told.seconds
            loop.advance(0.1)
            monitor._blocked(told)

        return block

    @pytest.mark.parametrize("seconds", [0.11, 0.3, 0.9])
    def test_a_block_that_held_up_no_timer_was_none(self, monitor, loop, metrics, events, seconds):
        """The watchdog was kept waiting, and not the loop."""
        loop.pump([0, *[0.1] * 20])
        monitor._blocked(Block(seconds, "  in small pieces\n"))
        assert self.value(metrics, "netapp_event_loop_blocks_total") == 0
        assert events == []

    def test_a_timer_that_was_late_for_something_else_bears_out_no_longer_block(self, monitor, loop, late, metrics):
        loop.advance(0)
        late[0] = 0.2
        loop.advance(0.1)
        monitor._blocked(Block(0.9, "  in small pieces\n"))
        assert self.value(metrics, "netapp_event_loop_blocks_total") == 0

    def test_a_block_is_counted_and_logged_with_its_stack(self, monitor, metrics, events, block):
        block(Block(0.834, "  in busy\n"))
        assert self.value(metrics, "netapp_event_loop_blocks_total") == 1
        assert monitor.lag() == pytest.approx(0.834)
        (event,) = events
        assert event["log_format"].format(**event) == "the event loop was blocked for 0.83 s"
        assert event["stack"] == "  in busy\n"
        assert event["log_level"].name == "warn"

    def test_a_block_without_a_stack_says_why(self, events, block):
        block(Block(0.4, ""))
        assert "interpreter's lock" in events[0]["stack"]

    def test_a_block_that_is_not_to_be_reported_is_counted_alone(self, metrics, events, block):
        block(Block(0.2, "x", is_reported=False))
        assert events == []
        assert self.value(metrics, "netapp_event_loop_blocks_total") == 1

    def test_the_next_one_tells_of_those_before(self, events, block):
        block(Block(0.2, "x", unreported=7))
        assert events[0]["log_format"].format(**events[0]).endswith("0.20 s; 7 more blocks before were only counted")

    def test_the_watchdog_starts_with_the_loops_first_turn(self, monitor, loop):
        assert monitor._watchdog is None
        loop.advance(0)
        assert monitor._watchdog._watched == threading.get_ident()

    @pytest.mark.parametrize("turns", [0, 1, 5])
    def test_nothing_is_left_when_it_stops_whenever_that_is(self, monitor, loop, turns):
        loop.pump([0.25] * turns)
        monitor.stopService()
        assert loop.getDelayedCalls() == []
        assert monitor._watchdog is None

    def test_it_can_be_started_again(self, monitor, loop):
        loop.advance(0)
        monitor.stopService()
        monitor.startService()
        loop.advance(0)
        assert monitor._watchdog is not None

    def test_it_can_be_stopped_without_ever_having_been_started(self, loop, metrics):
        LoopMonitor(loop, metrics).stopService()


@pytest.mark.parametrize(
    ("name", "waiting"),
    [
        ("twisted.internet.epollreactor", True),
        ("twisted.internet.selectreactor", True),
        ("twisted.internet.asyncioreactor", True),
        ("selectors", True),
        ("netapp.uvreactor", True),
        ("netapp.uvreactor.reactor", True),
        ("twisted.internet.base", False),
        ("twisted.internet.tcp", False),
        ("netapp.monitor.loop", False),
        ("myselectors", False),
    ],
)
def test_a_reactors_innermost_frame_waits(name, waiting):
    assert is_waiting(SimpleNamespace(f_globals={"__name__": name})) is waiting


def test_code_without_a_module_does_not_wait():
    assert not is_waiting(SimpleNamespace(f_globals={}))


def test_a_stack_reads_like_a_traceback():
    lines = describe(busy()).splitlines()
    assert lines[-2].endswith(", in busy")
    assert lines[-1].strip() == "return sys._getframe()"
    assert lines[-4].endswith(", in test_a_stack_reads_like_a_traceback")


def test_a_stack_is_bounded():
    def deeper(levels):
        return deeper(levels - 1) if levels else describe(busy())

    assert deeper(200).count("File") <= 25


class TestClocks:
    def test_processor_time_of_one_thread_is_that_of_no_other(self):
        mine = cpu_clock(threading.get_ident())
        before = mine()
        worker = threading.Thread(target=lambda: sum(range(3_000_000)))
        worker.start()
        worker.join()
        idle = mine() - before
        started = time.thread_time()
        while time.thread_time() - started < 0.02:
            pass
        assert mine() - before - idle >= 0.02
        assert idle < 0.02

    def test_where_threads_are_not_told_apart_it_is_the_process(self, monkeypatch):
        monkeypatch.delattr(time, "pthread_getcpuclockid")
        assert cpu_clock(threading.get_ident()) is time.process_time

    def test_a_suspend_is_counted_where_the_system_says(self, monkeypatch):
        assert suspended_seconds() >= -0.01
        monkeypatch.delattr(time, "CLOCK_BOOTTIME")
        assert suspended_seconds() == 0
