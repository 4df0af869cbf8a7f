"""The certificates in service: reloads, their instruments, and their warnings."""

from __future__ import annotations

import shutil
import time

import pytest
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from netapp.errors import StartupError
from netapp.listeners.tls import TlsPolicy, TlsStore, contexts
from netapp.telemetry.metrics import Registry
from tests.support.certificates import certificates, client_context
from tests.support.handshake import Visit

DAY = 86400.0


class Deployed:
    """A listener ``web`` whose one certificate file can be replaced."""

    def __init__(self, folder, **settings):
        self.file = folder / "a.pem"
        self.put(1)
        self.registry = Registry()
        policy = TlsPolicy(certificate=str(self.file), **settings)
        self.store = TlsStore(policy, listener="web", registry=self.registry)

    def put(self, generation: int):
        shutil.copy(certificates().server("a.example", generation=generation).both, self.file)

    def reload(self) -> tuple[bool, list[dict]]:
        """Return what came of it, and what was logged."""
        with capturedLogs() as events:
            outcome = self.store.reload()
        return outcome, list(events)

    def reloads(self) -> dict[str, float]:
        family = self.registry.counter("netapp_tls_reloads_total", "", ("listener", "outcome"))
        return {outcome: child.value for (_, outcome), child in family.children.items()}

    def not_after(self) -> dict[tuple[str, ...], float]:
        family = self.registry.gauge("netapp_tls_certificate_not_after_timestamp_seconds", "", ("listener", "name"))
        return {labels: child.value for labels, child in family.children.items()}


def served_by(visit) -> bytes:
    return visit.client.getpeercert(binary_form=True)


def serial(generation: int) -> int:
    return certificates().server("a.example", generation=generation).leaf.serial_number


def serial_served(store) -> int:
    visit = Visit(store, client_context()).handshake()
    return int(visit.client.getpeercert()["serialNumber"], 16)


@pytest.fixture
def deployed(tmp_path):
    return Deployed(tmp_path)


def test_it_is_what_twisted_makes_connections_with(deployed):
    assert verifyObject(IOpenSSLServerConnectionCreator, deployed.store)


def test_it_does_not_begin_with_bad_files(tmp_path):
    with pytest.raises(StartupError, match=r"gone\.pem: cannot be read"):
        TlsStore(TlsPolicy(certificate=str(tmp_path / "gone.pem")))


def test_an_authority_file_without_certificates_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    server = str(certificates().server("a.example").both)
    policy = TlsPolicy(certificate=server, client_auth="required", client_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(StartupError, match=r"ca\.pem: no certificate in it"):
        TlsStore(policy)


def test_a_reload_serves_new_connections_and_leaves_the_old_ones(deployed):
    before = Visit(deployed.store, client_context()).handshake()
    deployed.put(2)
    outcome, events = deployed.reload()
    assert outcome
    assert [formatEvent(event) for event in events] == ["listener web serves its TLS files anew: 1 certificates"]
    assert serial_served(deployed.store) == serial(2) != serial(1)
    before.exchange(b"still", b"here")
    assert deployed.reloads() == {"ok": 1, "failed": 0}


@pytest.mark.parametrize("fault", ["gone", "not PEM", "another key", "half written"])
def test_a_bad_file_keeps_the_old_one_in_service(deployed, fault):
    other = certificates().server("b.example")
    contents = {
        "gone": None,
        "not PEM": b"nothing",
        "another key": other.certificate.read_bytes() + certificates().server("a.example").key.read_bytes(),
        "half written": other.both.read_bytes()[:-100],
    }[fault]
    if contents is None:
        deployed.file.unlink()
    else:
        deployed.file.write_bytes(contents)
    outcome, events = deployed.reload()
    assert not outcome
    assert [event["log_level"] for event in events] == [LogLevel.error]
    text = formatEvent(events[0])
    assert text.startswith("new TLS files of listener web are not used, the old ones stay in service: ")
    assert str(deployed.file) in text
    assert serial_served(deployed.store) == serial(1)
    assert deployed.reloads() == {"ok": 0, "failed": 1}
    deployed.put(2)
    assert deployed.reload()[0]
    assert serial_served(deployed.store) == serial(2)
    assert deployed.reloads() == {"ok": 1, "failed": 1}


def test_a_defect_in_reading_keeps_the_old_files_in_service(deployed, monkeypatch):
    monkeypatch.setattr("netapp.listeners.tls.contexts.read_pairs", lambda policy: 1 // 0)
    outcome, events = deployed.reload()
    assert not outcome
    assert events[0]["log_failure"].check(ZeroDivisionError)
    assert serial_served(deployed.store) == serial(1)
    assert deployed.reloads() == {"ok": 0, "failed": 1}


def test_changes_are_seen_until_the_next_attempt_to_read_them(deployed):
    assert not deployed.store.changed()
    deployed.file.write_bytes(b"nothing at all")
    assert deployed.store.changed()
    deployed.store.reload()
    assert not deployed.store.changed()
    deployed.put(2)
    assert deployed.store.changed()


def test_a_change_while_the_files_are_read_is_not_missed(deployed, monkeypatch):
    def read_and_change(policy):
        pairs = read(policy)
        deployed.put(2)
        return pairs

    read = contexts.read_pairs
    monkeypatch.setattr(contexts, "read_pairs", read_and_change)
    deployed.store.reload()
    assert deployed.store.changed()


def test_expiry_is_a_metric_by_listener_and_name(deployed):
    expected = certificates().server("a.example", generation=1).leaf.not_valid_after_utc.timestamp()
    assert deployed.not_after() == {("web", "a.example"): expected}


def test_expiry_of_certificates_that_are_gone_is_no_longer_shown(deployed):
    other = certificates().server("b.example")
    shutil.copy(other.both, deployed.file)
    TlsStore(deployed.store.policy, listener="other", registry=deployed.registry)
    deployed.reload()
    assert set(deployed.not_after()) == {("web", "b.example"), ("other", "b.example")}


def test_of_two_certificates_for_a_name_the_first_to_expire_is_shown(tmp_path):
    for name, days in {"a": 100, "b": 50, "c": 200}.items():
        shutil.copy(certificates().server("a.example", days=days).both, tmp_path / f"{name}.pem")
    shutil.copy(certificates().signed().both, tmp_path / "nameless.pem")
    registry = Registry()
    TlsStore(TlsPolicy(directory=str(tmp_path)), registry=registry)
    values = registry.gauge("netapp_tls_certificate_not_after_timestamp_seconds", "", ("listener", "name")).children
    soonest = certificates().server("a.example", days=50).leaf.not_valid_after_utc.timestamp()
    assert values["", "a.example"].value == soonest
    assert set(values) == {("", "a.example"), ("", str(tmp_path / "nameless.pem"))}


def warnings_for(policy, **arguments) -> list[str]:
    with capturedLogs() as events:
        TlsStore(policy, listener="web", **arguments)
    assert {event["log_level"] for event in events} <= {LogLevel.warn}
    return [formatEvent(event) for event in events]


def test_an_expired_certificate_is_served_with_a_warning():
    issued = certificates().expired("a.example")
    (text,) = warnings_for(TlsPolicy(certificate=str(issued.both)))
    when = issued.leaf.not_valid_after_utc.isoformat()
    assert text == f"the certificate {issued.both} of listener web has expired: since {when}"


def test_a_certificate_is_warned_of_two_weeks_before_it_expires():
    policy = TlsPolicy(certificate=str(certificates().server("a.example").both))
    assert warnings_for(policy, wall=lambda: time.time() + 350 * DAY) == []
    (text,) = warnings_for(policy, wall=lambda: time.time() + 352 * DAY)
    assert "of listener web expires 20" in text


def test_a_certificate_that_is_never_served_is_warned_of(tmp_path):
    for name, names in {"a": ["a.example"], "b": ["b.example"], "c": ["b.example"], "d": ["a.example", "d.x"]}.items():
        shutil.copy(certificates().server(*names).both, tmp_path / f"{name}.pem")
    (text,) = warnings_for(TlsPolicy(directory=str(tmp_path)))
    assert text.startswith(f"the certificate {tmp_path}/c.pem of listener web is never served")


def test_the_pairs_in_service_can_be_listed(deployed):
    assert [(pair.source, pair.names) for pair in deployed.store.pairs] == [(str(deployed.file), ("a.example",))]
