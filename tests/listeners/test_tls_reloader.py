"""Looking at the TLS files from time to time."""

from __future__ import annotations

import shutil

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from netapp.listeners.tls import TlsPolicy, TlsReloader, TlsStore
from tests.support.certificates import certificates


class Deployed:
    def __init__(self, folder, interval=10.0):
        self.certificate, self.key = folder / "a.crt", folder / "a.key"
        self.put(1)
        policy = TlsPolicy(certificate=str(self.certificate), key=str(self.key), reload_interval=interval)
        self.store = TlsStore(policy)
        self.clock = Clock()
        self.reloader = TlsReloader(self.store, self.clock)
        self.reloader.startService()

    def put(self, generation: int):
        self.put_certificate(generation)
        self.put_key(generation)

    def put_certificate(self, generation: int):
        shutil.copy(self.issued(generation).certificate, self.certificate)

    def put_key(self, generation: int):
        shutil.copy(self.issued(generation).key, self.key)

    def issued(self, generation: int):
        return certificates().server("a.example", generation=generation)

    def looks(self, count: int) -> list[str]:
        """Let so many intervals pass; return the levels of what was logged."""
        with capturedLogs() as events:
            for _ in range(count):
                self.clock.advance(10)
        return [event["log_level"].name for event in events]

    @property
    def serves(self) -> int:
        return self.store.pairs[0].certificate.serial_number

    def serial(self, generation: int) -> int:
        return self.issued(generation).leaf.serial_number


@pytest.fixture
def deployed(tmp_path):
    deployed = Deployed(tmp_path)
    yield deployed
    if deployed.reloader.running:
        deployed.reloader.stopService()
    assert deployed.clock.getDelayedCalls() == []


def test_nothing_happens_while_nothing_changes(deployed):
    assert deployed.looks(20) == []


def test_new_files_are_served_once_two_looks_agree(deployed):
    deployed.put(2)
    assert deployed.looks(1) == []
    assert deployed.serves == deployed.serial(1)
    assert deployed.looks(1) == ["info"]
    assert deployed.serves == deployed.serial(2)
    assert deployed.looks(5) == []


def test_a_pair_that_is_half_written_is_not_read(deployed):
    deployed.put_certificate(2)
    deployed.looks(1)
    deployed.put_key(2)
    assert deployed.looks(1) == []
    assert deployed.serves == deployed.serial(1)
    assert deployed.looks(1) == ["info"]
    assert deployed.serves == deployed.serial(2)


def test_a_bad_pair_is_complained_about_once_and_read_again_when_it_changes(deployed):
    deployed.put_certificate(2)
    assert deployed.looks(30) == ["error"]
    assert deployed.serves == deployed.serial(1)
    deployed.put_key(3)
    assert deployed.looks(30) == ["error"]
    deployed.put_key(2)
    assert deployed.looks(30) == ["info"]
    assert deployed.serves == deployed.serial(2)


def test_a_change_that_is_taken_back_is_no_change(deployed):
    aside = deployed.key.with_suffix(".aside")
    deployed.key.rename(aside)
    deployed.looks(1)
    aside.rename(deployed.key)
    assert deployed.looks(1) == []
    deployed.key.rename(aside)
    assert deployed.looks(1) == [], "the look of before must be forgotten"
    aside.rename(deployed.key)


def test_a_reload_on_a_signal_counts_as_having_seen_the_change(deployed):
    deployed.put(2)
    deployed.looks(1)
    assert deployed.store.reload()
    assert deployed.looks(5) == []


def test_the_files_are_read_anew_once_a_day_for_the_sake_of_the_ticket_keys(deployed):
    before = deployed.store.serverConnectionForTLS(None).get_context()
    assert deployed.looks(8639) == []
    assert deployed.looks(1) == ["info"]
    assert deployed.store.serverConnectionForTLS(None).get_context() is not before


def test_an_interval_of_0_looks_at_nothing(tmp_path):
    deployed = Deployed(tmp_path, interval=0)
    assert deployed.clock.getDelayedCalls() == []
    deployed.put(2)
    deployed.clock.advance(100_000)
    assert deployed.serves == deployed.serial(1)
    deployed.reloader.stopService()


def test_a_stopped_reloader_looks_no_more_and_can_start_again(deployed):
    deployed.reloader.stopService()
    deployed.put(2)
    assert deployed.looks(5) == []
    deployed.reloader.startService()
    assert deployed.looks(2) == [LogLevel.info.name]
