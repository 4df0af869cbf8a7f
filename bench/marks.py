"""The marks that netapp is built to pass, by workload. They are floors; none is lowered to be met."""

from __future__ import annotations

from bench.results import Mark

MARKS: dict[str, tuple[Mark, ...]] = {
    "http-hello": (
        Mark(figure="rate", against="nginx", at_least=0.55, words="at least 0.55 x nginx"),
        Mark(figure="rate", against="granian", at_least=1.5, words="at least 1.5 x granian"),
        Mark(figure="rate", against="twisted.web", at_least=4.0, words="at least 4 x twisted.web"),
        Mark(figure="rate", against="twisted.web", at_least=2.5, words="at least 2.5 x twisted.web (first release)"),
    ),
    "calculator-1": (Mark(figure="rate", at_least=100_000, words="at least 100,000 messages/s"),),
    "calculator-16": (Mark(figure="rate", at_least=300_000, words="at least 300,000 messages/s"),),
    "tcp-echo-1": (Mark(figure="rate", against="c-echo", at_least=0.65, words="at least 0.65 x C epoll"),),
    "idle": (
        Mark(figure="bytes_each", at_most=6144, words="at most 6 KiB a connection"),
        Mark(figure="new_p95_ms", at_most=50, words="p95 of requests on new connections under 50 ms"),
        Mark(figure="held_p95_ms", at_most=50, words="p95 of requests on held connections under 50 ms"),
    ),
}
