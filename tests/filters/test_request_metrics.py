"""Every request is counted once, under labels whose number no client decides."""

from inspect import getclosurevars

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from netapp.filters import request_metrics
from netapp.http import HttpError, Response, Router
from netapp.telemetry.metrics import Registry


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def around(registry, clock):
    return request_metrics(registry, "web", now=clock.seconds)


@pytest.fixture
def values(registry):
    """Give all children of a metric as a dict from label values to numbers (for histograms: count and sum)."""

    def read(name):
        found = next(family for family in registry if family.name == f"netapp_http_{name}").children
        return {labels: (c.count, c.sum) if hasattr(c, "sum") else c.value for labels, c in found.items()}

    return read


@pytest.fixture
def router():
    router = Router()
    router.add("/users/{id}", lambda _: Response.text("hello"))
    return router


def test_a_finished_request_is_counted_with_its_time_and_size(around, router, clock, values, make_request):
    request = make_request(target=b"/users/7", started=clock.seconds())
    response = around(router)(request)
    assert response.body == b"hello"
    clock.advance(0.25)
    request.finish(200, 5, None)
    assert values("requests_total") == {("web", "/users/{id}", "GET", "200"): 1}
    assert values("request_seconds") == {("web", "/users/{id}"): (1, 0.25)}
    assert values("response_bytes_total") == {("web",): 5}


def test_a_request_is_in_flight_until_it_is_finished(around, values, make_request):
    requests = [make_request(), make_request()]
    app = around(lambda _: Deferred())
    for request in requests:
        app(request)
    assert values("requests_in_flight") == {("web",): 2}
    requests[0].finish(200, 0, None)
    requests[1].finish(0, 0, ConnectionError())
    assert values("requests_in_flight") == {("web",): 0}


def test_a_request_is_released_once_however_often_it_is_finished(around, values, make_request):
    request = make_request()
    around(lambda _: Response())(request)
    for _ in range(3):
        request.finish(200, 7, None)
    assert values("requests_in_flight") == {("web",): 0}
    assert values("response_bytes_total") == {("web",): 7}


def test_a_responder_that_raises_is_counted_when_its_page_is_sent(around, values, make_request):
    def fail(_):
        raise HttpError(404)

    request = make_request()
    with pytest.raises(HttpError):
        around(fail)(request)
    request.finish(404, 14, None)
    assert values("requests_total") == {("web", "unmatched", "GET", "404"): 1}
    assert values("requests_in_flight") == {("web",): 0}


def test_a_client_that_left_before_any_answer_is_status_0(around, values, make_request):
    request = make_request()
    around(lambda _: Deferred())(request)
    request.finish(0, 0, ConnectionError())
    assert values("requests_total") == {("web", "unmatched", "GET", "0"): 1}


def test_paths_and_methods_that_clients_invent_make_no_new_labels(around, router, values, make_request):
    app = around(router)
    for number in range(50):
        request = make_request(f"BREW{number}", f"/users/{number}".encode())
        with pytest.raises(HttpError):
            app(request)
        request.finish(405, 0, None)
        request = make_request("GET", f"/{number}".encode())
        with pytest.raises(HttpError):
            app(request)
        request.finish(404, 0, None)
    assert values("requests_total") == {
        ("web", "/users/{id}", "other", "405"): 50,
        ("web", "unmatched", "GET", "404"): 50,
    }


def test_an_invented_method_is_remembered_nowhere(around, make_request):
    request = make_request("BREW")
    around(lambda _: Response())(request)
    known = getclosurevars(request._finishers[0]).nonlocals["known"]
    request.finish(200, 0, None)
    assert known == {}
    request = make_request("GET")
    around(lambda _: Response())(request)
    request.finish(200, 0, None)
    assert list(known) == [("", "GET", 200)]


def test_two_listeners_share_the_metrics_and_not_the_numbers(registry, around, values, make_request):
    for filter_ in (around, request_metrics(registry, "other")):
        request = make_request()
        filter_(lambda _: Response())(request)
        request.finish(204, 0, None)
    assert set(values("requests_total")) == {
        ("web", "unmatched", "GET", "204"),
        ("other", "unmatched", "GET", "204"),
    }
