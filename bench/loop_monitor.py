"""Does the event loop's monitor leave a busy loop in peace? A timing check, and so no test: run it on a quiet machine.

``python -m bench.loop_monitor`` works in small pieces for some seconds, prints the blocks that were reported, which
should be none, and the processor time that the monitor itself took.
"""

from __future__ import annotations

import sys
import time

from twisted.internet import reactor

from netapp.monitor.loop import LoopMonitor
from netapp.telemetry.metrics import Registry

SECONDS = 5.0


def main() -> int:
    """Run, report, and return 1 when a block was seen that was none."""
    metrics = Registry()
    monitor = LoopMonitor(reactor, metrics)
    begun = time.monotonic()

    def work():
        sum(range(10_000))
        if time.monotonic() - begun < SECONDS:
            reactor.callLater(0, work)
        else:
            monitor.stopService()
            reactor.stop()

    monitor.startService()
    reactor.callLater(0, work)
    reactor.run()
    blocks = next(family.total() for family in metrics if family.name == "netapp_event_loop_blocks_total")
    print(f"{blocks:.0f} blocks in {SECONDS:g} s of small pieces")
    return 1 if blocks else 0


if __name__ == "__main__":
    sys.exit(main())
