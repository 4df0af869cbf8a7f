"""Clients of what netapp serves, for programs of one's own; each works alone on any Twisted reactor."""
