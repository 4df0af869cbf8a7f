"""Requests as a protocol would make them."""

import pytest

from netapp.http import Headers, Request
from netapp.peer import Peer


@pytest.fixture
def make_request():
    """Make a request; ``headers`` are its fields, the other arguments those of Request."""

    def make(method="GET", target=b"/", headers=(), *, peer=None, **fields):
        return Request(method, target, Headers(headers), peer or Peer("c1", "web", "192.0.2.1", 4711), **fields)

    return make
