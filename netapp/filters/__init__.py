"""Filters: what is done around every responder. Each module is one filter, and works alone in any program."""

from netapp.filters.accesslog import access_log
from netapp.filters.deadline import deadline
from netapp.filters.metrics import request_metrics
from netapp.filters.requestid import request_id

__all__ = ["access_log", "deadline", "request_id", "request_metrics"]
