"""The admin pages: what they tell, and whom."""

import json

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from netapp.admin.pages import admin_pages, admin_router, require_token
from netapp.http import Headers, HttpError, Request
from netapp.peer import Peer
from netapp.protocols.http1 import Http1Factory
from netapp.telemetry.health import CheckResult, Health, HealthPolicy, Readiness, Status, Vitals
from netapp.telemetry.metrics import Registry

PATHS = ["/", "/livez", "/readyz", "/healthz", "/metrics", "/connections", "/config"]


class Connection:
    def __init__(self, number, listener):
        self.peer = Peer(f"c{number}", listener, "192.0.2.1", number)

    def as_dict(self, now):
        return {"id": self.peer.id, "listener": self.peer.listener, "age": now - 100}


class Application:
    """What the pages need to know, for them to tell."""

    def __init__(self):
        self.registry = Registry()
        self.health = Health(HealthPolicy(), Vitals())
        self.readiness = Readiness()
        self.draining = False
        self.drained = 0
        self.open = [Connection(number, "web" if number % 2 else "echo") for number in range(1, 6)]

    def connections(self):
        return iter(self.open)

    def redacted_config(self):
        return {"admin": {"token": "***"}}

    def drain(self):
        self.draining = True
        self.drained += 1

    def now(self):
        return 0.0


@pytest.fixture
def application():
    return Application()


@pytest.fixture
def ask(application):
    """Ask a page; gives status, headers and body."""
    router = admin_router(application, monotonic=lambda: 110.0)

    def send(target, accept="", method="GET", **headers):
        fields = [("accept", accept)] if accept else []
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        peer = Peer("c", host="127.0.0.1")
        request = Request(method, target.encode(), Headers(fields), peer, host="localhost:9090")
        try:
            response = router(request)
        except HttpError as error:
            return error.status, dict(error.headers), error.detail
        return response.status, dict(response.headers), response.body

    return send


def visit(responder, path, *fields, method="GET", host="localhost:9090", peer_host="127.0.0.1"):
    """Ask over HTTP/1; gives status and head. What is logged on the way is nobody's business here."""
    transport = StringTransport()
    protocol = Http1Factory(responder, clock=Clock()).buildProtocol(None)
    protocol.set_peer(Peer("c", host=peer_host))
    protocol.makeConnection(transport)
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    with capturedLogs():
        protocol.dataReceived("\r\n".join(lines).encode())
    head = transport.value().partition(b"\r\n\r\n")[0].decode()
    return int(head.split()[1]), head


# -- what they tell


def test_the_index_leads_to_every_page(ask):
    status, headers, body = ask("/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    for path in PATHS[1:]:
        assert f'href="{path}"'.encode() in body
    assert b"curl -X POST http://localhost:9090/drain" in body


def test_livez_is_ok_whatever_else_is_not(ask, application):
    application.readiness.not_ready("drain", "stopping")
    application.health.register("mine", lambda: False)
    assert ask("/livez")[::2] == (200, b"ok")


def test_readyz_gives_the_reasons(ask, application):
    status, _, body = ask("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": {}})
    application.readiness.not_ready("drain", "the server is stopping")
    status, headers, body = ask("/readyz")
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": {"drain": "the server is stopping"}})
    assert headers["content-type"] == "application/json"


def test_readyz_is_text_for_who_asks_for_text(ask, application):
    assert ask("/readyz", "text/plain")[::2] == (200, b"ready\n")
    application.readiness.not_ready("drain", "the server is stopping")
    assert ask("/readyz", "text/plain")[::2] == (503, b"not ready\ndrain: the server is stopping\n")


@pytest.mark.parametrize(("status", "code"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503)])
def test_healthz_is_503_for_unhealthy_alone(ask, application, status, code):
    application.health.register("mine", lambda: CheckResult(Status(status), "said the test"))
    found, headers, body = ask("/healthz")
    report = json.loads(body)
    assert (found, report["status"], report["timestamp"]) == (code, status, "1970-01-01T00:00:00.000Z")
    assert report["checks"]["mine"]["detail"] == "said the test"
    assert report["response_time_seconds"] >= 0
    assert headers["content-type"] == "application/json"


def test_metrics_are_in_the_format_that_is_asked_for(ask, application):
    application.registry.counter("netapp_things_total", "Things.").child().inc(3)
    _, headers, body = ask("/metrics")
    assert headers["content-type"].startswith("text/plain; version=")
    assert b"netapp_things_total 3.0" in body
    _, headers, body = ask("/metrics", "application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


def test_metrics_can_be_left_out(application):
    router = admin_router(application, metrics=False)
    request = Request("GET", b"/metrics", Headers(), Peer("c"))
    with pytest.raises(HttpError):
        router(request)
    assert b"/metrics" not in router(Request("GET", b"/", Headers(), Peer("c"))).body


@pytest.mark.parametrize(
    ("query", "total", "ids"),
    [
        ("", 5, ["c1", "c2", "c3", "c4", "c5"]),
        ("?limit=2", 5, ["c1", "c2"]),
        ("?limit=0", 5, []),
        ("?limit=10000", 5, ["c1", "c2", "c3", "c4", "c5"]),
        ("?listener=web", 3, ["c1", "c3", "c5"]),
        ("?listener=web&limit=1", 3, ["c1"]),
        ("?listener=none", 0, []),
        ("?listener=", 0, []),
    ],
)
def test_connections_are_listed_and_counted(ask, query, total, ids):
    status, _, body = ask("/connections" + query)
    found = json.loads(body)
    assert (status, found["total"]) == (200, total)
    assert [connection["id"] for connection in found["connections"]] == ids


def test_a_connections_age_is_by_the_monotonic_clock(ask):
    connections = json.loads(ask("/connections?limit=1")[2])["connections"]
    assert connections == [{"id": "c1", "listener": "web", "age": 10}]


@pytest.mark.parametrize("limit", ["", "-1", "x", "1.5", "10001", "1e3", "%C2%B2", "0" * 9000, "٣"])
def test_a_limit_that_is_none_is_refused(ask, limit):
    assert ask(f"/connections?limit={limit}")[0] == 400


def test_the_number_of_connections_on_a_page_has_a_default(ask, application):
    application.open = [Connection(number, "web") for number in range(1200)]
    found = json.loads(ask("/connections")[2])
    assert (found["total"], len(found["connections"])) == (1200, 1000)


def test_the_configuration_is_the_redacted_one(ask):
    assert json.loads(ask("/config")[2]) == {"admin": {"token": "***"}}


def test_drain_begins_once_however_often_it_is_asked_for(ask, application):
    for _ in range(3):
        status, _, body = ask("/drain", method="POST")
        assert (status, json.loads(body)) == (202, {"draining": True})
    assert application.drained == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_nothing_but_post_drains(ask, application, method):
    status, headers, _ = ask("/drain", method=method)
    assert (status, headers) == (405, {"Allow": "OPTIONS, POST"})
    assert application.drained == 0


# -- whom they tell


@pytest.mark.parametrize("path", [*PATHS, "/drain", "/none", "/healthz?x", "/%6Civez", "/livez/", "//livez"])
@pytest.mark.parametrize("authorization", [[], ["Authorization: Bearer wrong"]])
def test_with_a_token_configured_all_but_the_probes_need_it(application, path, authorization):
    status, head = visit(admin_pages(application, token="s3cret"), path, *authorization)
    if path in {"/livez", "/readyz"}:
        assert status == 200
    else:
        assert status == 401
        assert "www-authenticate: Bearer" in head
    assert "cache-control: no-store" in head


@pytest.mark.parametrize("path", PATHS)
def test_the_token_opens_every_page_under_any_host(application, path):
    pages = admin_pages(application, token="s3cret")
    assert visit(pages, path, "Authorization: Bearer s3cret", host="admin.example", peer_host="192.0.2.1")[0] == 200


def test_drain_needs_the_token(application):
    pages = admin_pages(application, token="s3cret")
    assert visit(pages, "/drain", "Content-Length: 0", method="POST")[0] == 401
    assert application.drained == 0
    assert visit(pages, "/drain", "Content-Length: 0", "Authorization: Bearer s3cret", method="POST")[0] == 202
    assert application.drained == 1


@pytest.mark.parametrize("token", ["", "s3cret"])
@pytest.mark.parametrize("origin", ["Sec-Fetch-Site: cross-site", "Origin: http://evil.example", "Origin: null"])
def test_a_page_of_another_site_cannot_drain(application, token, origin):
    fields = ["Content-Length: 0", "Authorization: Bearer s3cret", origin]
    status, head = visit(admin_pages(application, token=token), "/drain", *fields, method="POST")
    assert (status, application.drained) == (403, 0)
    assert "cache-control: no-store" in head


@pytest.mark.parametrize("path", [*PATHS, "/drain"])
@pytest.mark.parametrize("host", ["evil.example:9090", "localhost.evil.example", "0.0.0.0:9090"])
def test_without_a_token_a_name_bent_to_loopback_leads_nowhere(application, path, host):
    status, head = visit(admin_pages(application), path, host=host)
    assert status == 403
    assert "cache-control: no-store" in head


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("host", "peer_host"), [("localhost:9090", "127.0.0.1"), ("[::1]:9090", "::1"), ("any", "")])
def test_without_a_token_this_machine_may_ask(application, path, host, peer_host):
    status, head = visit(admin_pages(application), path, host=host, peer_host=peer_host)
    assert status == 200
    for field in ("cache-control: no-store", "x-content-type-options: nosniff", "cross-origin-resource-policy: "):
        assert head.count(field) == 1


def test_the_page_of_a_defect_is_not_cached_either(application):
    application.redacted_config = lambda: 1 / 0
    status, head = visit(admin_pages(application), "/config")
    assert status == 500
    assert "cache-control: no-store" in head


def test_an_empty_token_is_a_mistake():
    with pytest.raises(ValueError, match="let everybody in"):
        require_token("")
