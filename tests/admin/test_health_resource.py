"""The mountable health resource: status codes that a load balancer understands, JSON that people do."""

import json

import pytest
from twisted.internet.testing import StringTransport
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from netapp.admin.health_resource import HealthResource
from netapp.telemetry.health import CheckResult, Health, HealthPolicy, Readiness, Status, Vitals


@pytest.fixture
def health():
    return Health(HealthPolicy(), Vitals())


@pytest.fixture
def readiness():
    return Readiness()


@pytest.fixture
def ask(health, readiness):
    """Send one request to a Site that has the resource at ``/health``; gives status, headers and body."""
    root = Resource()
    root.putChild(b"health", HealthResource(health, readiness, now=lambda: 0))
    site = Site(root)

    def send(path, method="GET"):
        transport = StringTransport()
        protocol = site.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        protocol.connectionLost(None)
        head, _, body = transport.value().partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        return int(status.split()[1]), {k.lower(): v for k, v in (field.split(": ", 1) for field in fields)}, body

    return send


def test_it_is_a_resource(health, readiness):
    assert verifyObject(IResource, HealthResource(health, readiness))


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/healthz", "/health?x=1"])
@pytest.mark.parametrize(("status", "code"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503)])
def test_healthz_is_503_for_unhealthy_alone(ask, health, path, status, code):
    health.register("mine", lambda: CheckResult(Status(status), "said the test"))
    found, headers, body = ask(path)
    assert found == code
    assert headers["content-type"] == "application/json"
    answer = json.loads(body)
    assert (answer["status"], answer["timestamp"]) == (status, "1970-01-01T00:00:00.000Z")
    assert answer["checks"]["mine"]["detail"] == "said the test"


def test_readyz_follows_the_reasons(ask, readiness):
    assert (ask("/health/readyz")[0], json.loads(ask("/health/readyz")[2])) == (200, {"ready": True, "reasons": {}})
    readiness.not_ready("draining", "SIGTERM")
    code, _, body = ask("/health/readyz")
    assert (code, json.loads(body)) == (503, {"ready": False, "reasons": {"draining": "SIGTERM"}})


def test_livez_does_not_care_for_health_or_readiness(ask, health, readiness):
    health.register("mine", lambda: False)
    readiness.not_ready("draining", "SIGTERM")
    assert ask("/health/livez")[0] == 200


@pytest.mark.parametrize("path", ["/health", "/health/livez", "/health/readyz", "/health/healthz", "/health/none"])
def test_no_answer_is_ever_cached(ask, path):
    assert ask(path)[1]["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/health", "/health/livez", "/health/readyz", "/health/healthz"])
def test_head_has_the_head_of_get_and_no_body(ask, path):
    code, headers, body = ask(path, "HEAD")
    expected_code, expected, _ = ask(path)
    assert (code, body) == (expected_code, b"")
    assert headers["content-type"] == expected["content-type"]
    assert int(headers["content-length"]) > 10


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", ["/health", "/health/livez", "/health/readyz", "/health/healthz"])
def test_other_methods_are_405_with_what_is_allowed(ask, health, path, method):
    health.register("mine", lambda: pytest.fail("a check ran for a refused method"))
    code, headers, body = ask(path, method)
    assert (code, headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body) == {"error": "only GET and HEAD are allowed here"}


def test_another_path_is_404(ask):
    code, headers, _ = ask("/health/nothing")
    assert (code, headers["content-type"]) == (404, "application/json")
