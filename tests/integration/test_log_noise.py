"""What Twisted's real ports say when they open and close, through the whole way of an event."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.logger import globalLogPublisher

from netapp.logs import build_observer


@pytest.mark.parametrize(("level", "lines"), [("info", 0), ("debug", 6)])
@pytest_twisted.ensureDeferred
async def test_ports_that_open_and_close_say_so_to_those_who_debug(tmp_path, level, lines):
    """Fails when Twisted rewords what the filter knows its chatter by."""
    observer, _ = build_observer(clock=reactor, level=level, file=str(tmp_path / "app.log"), flood_limit=0)
    globalLogPublisher.addObserver(observer)
    try:
        ports = [
            reactor.listenTCP(0, Factory(), interface="127.0.0.1"),
            reactor.listenUNIX(str(tmp_path / "socket"), Factory()),
            reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1"),
        ]
        for port in ports:
            await port.stopListening()
    finally:
        globalLogPublisher.removeObserver(observer)
    written = (tmp_path / "app.log").read_text()
    assert written.count("starting on") + written.count("Closed)") == lines, written
    assert ("info" in written) is False
