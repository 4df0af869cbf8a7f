"""The monitor on a real reactor, with real blocks: they are found, and nothing else is."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from netapp.monitor.blocks import LoopPolicy
from netapp.monitor.loop import LoopMonitor
from netapp.telemetry.metrics import Registry

ROOT = Path(__file__).parents[2]


class Observed:
    """A running monitor, its metrics, and the blocks that it logs, to be waited for."""

    def __init__(self, policy):
        self.metrics = Registry()
        self.monitor = LoopMonitor(reactor, self.metrics, policy)
        self.blocks = []
        self._waiting = Deferred()

    def __call__(self, event):
        if "the event loop was blocked" in event.get("log_format", ""):
            self.blocks.append(event)
            waiting, self._waiting = self._waiting, Deferred()
            waiting.callback(event)

    def block(self):
        """A Deferred of the next block that is logged; it fails after 5 s."""
        return self._waiting.addTimeout(5, reactor)

    def total(self, name):
        return next(family.total() for family in self.metrics if family.name == name)


@pytest.fixture
def observed(request):
    observed = Observed(getattr(request, "param", None))
    globalLogPublisher.addObserver(observed)
    observed.monitor.startService()
    yield observed
    if observed.monitor.running:
        observed.monitor.stopService()
    globalLogPublisher.removeObserver(observed)


def pause(seconds):
    return deferLater(reactor, seconds)


def the_one_that_sleeps():
    time.sleep(0.3)


def the_one_that_computes():
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass


def the_one_that_keeps_the_lock():
    """``sum`` and ``range`` are C, and let no other thread in until they are done."""
    end = time.monotonic() + 0.3
    length = 100_000
    while time.monotonic() < end:
        started = time.monotonic()
        sum(range(length))
        if time.monotonic() - started > 0.2:
            return
        length *= 2


@pytest.mark.parametrize("culprit", [the_one_that_sleeps, the_one_that_computes, the_one_that_keeps_the_lock])
@pytest_twisted.ensureDeferred
async def test_a_block_is_logged_with_the_stack_that_caused_it(observed, culprit):
    await pause(0.2)
    reactor.callLater(0, culprit)
    event = await observed.block()
    assert 0.2 <= event["seconds"] < 2
    assert f", in {culprit.__name__}\n" in event["stack"]
    assert observed.total("netapp_event_loop_blocks_total") >= 1
    assert observed.total("netapp_event_loop_lag_seconds") > 0.1


@pytest.mark.parametrize("observed", [LoopPolicy(block_threshold=0.5)], indirect=True)
@pytest_twisted.ensureDeferred
async def test_a_loop_with_nothing_to_do_is_not_blocked(observed):
    await pause(1.2)
    assert observed.blocks == []
    assert observed.total("netapp_event_loop_blocks_total") == 0
    assert observed.total("netapp_event_loop_delay_seconds") >= 1


@pytest_twisted.ensureDeferred
async def test_the_watchdogs_thread_ends_with_the_service(observed):
    await pause(0.1)
    assert "netapp-loop-watchdog" in {thread.name for thread in threading.enumerate()}
    started = time.monotonic()
    observed.monitor.stopService()
    assert time.monotonic() - started < 0.5
    assert "netapp-loop-watchdog" not in {thread.name for thread in threading.enumerate()}


STOPPED = """
import sys
from twisted.internet import reactor
from netapp.monitor.blocks import LoopPolicy
from netapp.monitor.loop import LoopMonitor
from netapp.telemetry.metrics import Registry
metrics = Registry()
monitor = LoopMonitor(reactor, metrics, LoopPolicy(block_threshold=0.4))
monitor.startService()
def end():
    monitor.stopService()
    print([family.total() for family in metrics if family.name == "netapp_event_loop_blocks_total"])
    reactor.stop()
reactor.callLater(0.3, print, "ready", flush=True)
reactor.callLater(1.2, end)
reactor.run()
"""


def test_a_process_that_was_stopped_by_a_signal_was_not_blocked():
    with subprocess.Popen([sys.executable, "-c", STOPPED], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        status = Path(f"/proc/{child.pid}/stat")
        while status.read_text().rsplit(")", 1)[1].split()[0] != "S":
            pass  # it is still in the call that printed; stopped there, it would rightly be called blocked
        child.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        child.send_signal(signal.SIGCONT)
        assert child.communicate(timeout=10)[0] == "[0]\n"
