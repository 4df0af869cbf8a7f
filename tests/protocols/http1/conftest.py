"""What the tests of HTTP/1 share."""

import pytest
from twisted.logger import LogLevel, globalLogPublisher


@pytest.fixture
def complaints():
    """What was logged as an error."""
    events = []

    def observe(event):
        if event["log_level"] >= LogLevel.error:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)
