"""Instruments: counters, gauges, histograms, health checks. A leaf that everyone may use; exposition is elsewhere."""
