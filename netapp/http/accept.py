"""Which representation a client likes best (RFC 9110 §12.5.1)."""

from __future__ import annotations

_EXACT, _SUBTYPE, _ANY = 3, 2, 1


def preferred(accept: str, *offers: str) -> str:
    """Return the one of the offered media types, in lower case, that an Accept field likes best.

    The weight decides, then how specific the range is that a type fell under, then which was named first, as clients
    expect that write a list without weights, and at last the order of the offers. Where the client accepts none of
    them, or has sent no such field, it is the first: a page that was not asked for tells more than a 406.
    """
    ranges = [_parse(member) for member in accept.split(",")]
    scored = [(_score(ranges, offer), -position, offer) for position, offer in enumerate(offers)]
    return max(scored)[2]


def _parse(member: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in member.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return kind, _weight(value.strip())
    return kind, 1.0


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _score(ranges: list[tuple[str, float]], offer: str) -> tuple[float, int, int]:
    """Weight, specificity and earliness of the most specific range that ``offer`` falls under."""
    matches = [
        (specificity, -position, weight)
        for position, (kind, weight) in enumerate(ranges)
        if (specificity := _specificity(kind, offer))
    ]
    if not matches:
        return 0.0, 0, 0
    specificity, earliness, weight = max(matches)
    return weight, specificity, earliness


def _specificity(kind: str, offer: str) -> int:
    if kind == offer or (offer == "application/json" and kind.endswith("+json")):
        return _EXACT
    if kind == offer.partition("/")[0] + "/*":
        return _SUBTYPE
    return _ANY if kind == "*/*" else 0
