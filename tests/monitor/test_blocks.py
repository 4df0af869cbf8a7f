"""What is a block, and what only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.monitor.blocks import BlockDetector, LoopPolicy, Peak

STACK = "  in busy\n"


@pytest.fixture
def detector():
    return BlockDetector(LoopPolicy(), now=0.0, cpu=0.0, asleep=0.0)


def turned(detector, now, cpu=0.0, asleep=0.0):
    return detector.turned(now, cpu, asleep)


def test_a_loop_that_turns_often_enough_is_not_blocked(detector):
    for step in range(1, 100):
        detector.saw(STACK)
        assert turned(detector, step * 0.099, cpu=step * 0.099) is None


def test_a_threshold_without_a_turn_and_with_a_stack_is_a_block(detector):
    detector.saw(STACK)
    block = turned(detector, 0.1)
    assert (block.seconds, block.stack, block.is_reported) == (0.1, STACK, True)


def test_a_loop_that_waited_the_whole_time_was_not_blocked(detector):
    """As when the process was stopped, or the machine gave it no time."""
    assert turned(detector, 30.0, cpu=0.01) is None


def test_a_loop_that_used_the_processor_unseen_was_blocked(detector):
    """As by an extension in C that keeps the interpreter's lock."""
    block = turned(detector, 0.4, cpu=0.35)
    assert (block.seconds, block.stack) == (0.4, "")


def test_processor_time_is_counted_from_the_last_turn(detector):
    turned(detector, 1.0, cpu=50.0)
    assert turned(detector, 1.4, cpu=50.01) is None
    assert turned(detector, 1.8, cpu=50.4) is not None


def test_a_suspend_is_no_block_whatever_was_seen(detector):
    detector.saw(STACK)
    assert turned(detector, 3600.0, cpu=3600.0, asleep=3599.0) is None
    detector.saw(STACK)
    assert turned(detector, 3600.3, cpu=3600.0, asleep=3599.0).seconds == pytest.approx(0.3)


def test_a_stack_counts_for_the_turn_that_follows_alone(detector):
    detector.saw(STACK)
    turned(detector, 0.05)
    assert turned(detector, 1.0) is None


def test_the_last_stack_counts(detector):
    detector.saw("first")
    detector.saw("last")
    assert turned(detector, 1.0).stack == "last"


def test_a_few_looks_are_due_in_a_block_however_long_it_is(detector):
    due = [tick for tick in range(1, 1000) if detector.is_due(tick * 0.05)]
    assert due == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    turned(detector, 50.0)
    assert not detector.is_due(50.04)
    assert detector.is_due(50.06)


@given(start=st.floats(0, 0.05), length=st.floats(0.1, 3))
def test_no_block_is_missed_or_too_long_by_more_than_the_interval(start, length):
    """Looks every 0.05 s; a loop that is found at work answers as soon as the block is over."""
    detector = BlockDetector(LoopPolicy(), now=0.0, cpu=0.0, asleep=0.0)
    end = start + length
    for tick in range(1, 100):
        now = tick * detector.interval
        if now > end:
            break
        if now >= start and detector.is_due(now):
            detector.saw(STACK)
    block = turned(detector, end)
    assert block.stack == STACK
    assert length <= block.seconds <= length + detector.interval


def blocked(detector, times, start=0.0, seconds=0.2):
    blocks = []
    for number in range(1, times + 1):
        detector.saw(STACK)
        blocks.append(turned(detector, start + number * seconds))
    return blocks


def test_under_flood_the_first_few_are_reported_and_the_rest_counted(detector):
    blocks = blocked(detector, 40)
    assert [block.is_reported for block in blocks] == [True] * 5 + [False] * 35


def test_the_next_report_tells_how_many_there_were(detector):
    blocked(detector, 40)
    turned(detector, 8.0 + 12.0)
    (block,) = blocked(detector, 1, start=20.0)
    assert (block.is_reported, block.unreported) == (True, 35)
    (block,) = blocked(detector, 1, start=40.0)
    assert (block.is_reported, block.unreported) == (True, 0)


def test_the_threshold_is_the_policys():
    detector = BlockDetector(LoopPolicy(block_threshold=2.0), now=0.0, cpu=0.0, asleep=0.0)
    detector.saw(STACK)
    assert turned(detector, 1.9) is None
    detector.saw(STACK)
    assert turned(detector, 3.9) is not None
    assert detector.interval == 1.0


@pytest.mark.parametrize("field", ["lag_interval", "lag_decay", "block_threshold", "report_interval"])
def test_a_policy_of_no_time_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be above 0"):
        LoopPolicy(**{field: 0})


class TestPeak:
    def test_it_rises_at_once_and_fades(self):
        peak = Peak(decay=5.0)
        peak.reach(2.0, now=100.0)
        assert peak.current(100.0) == 2.0
        assert peak.current(105.0) == pytest.approx(2.0 / 2.718, rel=0.001)
        assert peak.current(200.0) < 1e-8

    def test_a_smaller_value_does_not_hide_what_is_left(self):
        peak = Peak(decay=5.0)
        peak.reach(2.0, now=0.0)
        peak.reach(0.001, now=1.0)
        assert peak.current(1.0) == pytest.approx(2.0 * 0.8187, rel=0.001)
        peak.reach(3.0, now=1.0)
        assert peak.current(1.0) == 3.0

    def test_it_begins_with_nothing(self):
        assert Peak(decay=5.0).current(1e9) == 0.0
