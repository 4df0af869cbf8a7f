"""Tells twistd of netapp. Twisted loads this file at every start of any of its commands, so it stays this small."""

from twisted.application.service import ServiceMaker

netapp = ServiceMaker(
    "netapp",
    "netapp.plugin",
    "HTTP, WebSocket and TCP services behind hardened listeners",
    "netapp",
)
