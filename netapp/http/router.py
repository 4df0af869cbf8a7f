"""Which responder answers which request: by host, path pattern and method.

A pattern is a path whose segments may be parameters: ``/users/{id}`` matches one segment, and a last ``{rest:path}``
matches all that remains, nothing included. Literal segments win over parameters and parameters over ``:path``. A
pattern is written without percent-encoding; a request's path is split before it is decoded, so an encoded slash never
separates (RFC 3986 §2.2). In what ``:path`` matched, though, it looks like any other slash.

A pattern without parameters costs one dictionary look-up; the others walk a tree of segments, so the time does not
depend on the number of routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from netapp.http.errors import HttpError
from netapp.http.message import Response
from netapp.http.responder import Filter, Responder, compose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from netapp.http.message import Request
    from netapp.http.responder import Answer

T = TypeVar("T")


class _Leaf:
    """What one pattern answers: a responder for each method."""

    __slots__ = ("methods", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.methods: dict[str, Responder] = {}


class _Node:
    """One segment's place in the tree."""

    __slots__ = ("leaf", "literals", "parameter", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: tuple[str, _Node] | None = None
        self.rest: tuple[str, _Leaf] | None = None
        self.leaf: _Leaf | None = None


class _Table:
    """The routes of one host."""

    __slots__ = ("exact", "root")

    def __init__(self) -> None:
        self.exact: dict[bytes, _Leaf] = {}
        self.root = _Node()

    def leaf(self, pattern: str) -> _Leaf:
        if "{" not in pattern and "}" not in pattern:
            return self.exact.setdefault(pattern.encode(), _Leaf(pattern))
        node = self.root
        segments = pattern[1:].split("/")
        for position, segment in enumerate(segments):
            name, is_parameter, takes_rest = _parse_segment(segment, pattern)
            if takes_rest:
                if position != len(segments) - 1:
                    raise ValueError(f"{pattern}: only the last segment may take the rest of the path")
                if node.rest is None:
                    node.rest = (name, _Leaf(pattern))
                return _same(node.rest, name, pattern)
            node = _child(node, name, pattern) if is_parameter else node.literals.setdefault(segment, _Node())
        if node.leaf is None:
            node.leaf = _Leaf(pattern)
        return node.leaf

    def find(self, raw_path: bytes) -> tuple[_Leaf, dict[str, str]] | None:
        found = self.exact.get(raw_path)
        if found is not None:
            return found, {}
        segments = [unquote(part, errors="replace") for part in raw_path[1:].decode("latin-1").split("/")]
        if b"%" in raw_path:
            # perhaps a literal path, spelled with needless escapes; it wins over parameters in this spelling too, or
            # one path could reach two routes. No pattern holds a '%', so an encoded slash stays what it is.
            found = self.exact.get(("/" + "/".join(s.replace("/", "%2F") for s in segments)).encode())
            if found is not None:
                return found, {}
        params: dict[str, str] = {}
        leaf = _walk(self.root, segments, 0, params)
        return None if leaf is None else (leaf, params)


def _check_pattern(pattern: str) -> None:
    if not pattern.startswith("/"):
        raise ValueError(f"a path pattern starts with '/': {pattern!r}")
    if any(mark in pattern for mark in "%?#"):
        raise ValueError(f"{pattern}: a pattern is a path without escapes, and has no '%', '?' or '#'")
    names = [segment[1:-1].partition(":")[0] for segment in pattern.split("/") if segment.startswith("{")]
    if len(set(names)) != len(names):
        raise ValueError(f"{pattern}: two parameters have the same name")


def _parse_segment(segment: str, pattern: str) -> tuple[str, bool, bool]:
    if not (segment.startswith("{") and segment.endswith("}")):
        if "{" in segment or "}" in segment:
            raise ValueError(f"{pattern}: a parameter is a whole segment, not a part of one: {segment!r}")
        return segment, False, False
    name, _, kind = segment[1:-1].partition(":")
    if not name.isidentifier() or kind not in {"", "path"}:
        raise ValueError(f"{pattern}: expected {{name}} or {{name:path}}, found {segment!r}")
    return name, True, kind == "path"


def _child(node: _Node, name: str, pattern: str) -> _Node:
    if node.parameter is None:
        node.parameter = (name, _Node())
    return _same(node.parameter, name, pattern)


def _same(known: tuple[str, T], name: str, pattern: str) -> T:
    if known[0] != name:
        raise ValueError(f"{pattern}: another pattern calls the parameter here {known[0]!r}")
    return known[1]


def _walk(node: _Node, segments: list[str], position: int, params: dict[str, str]) -> _Leaf | None:
    if position == len(segments):
        return node.leaf
    segment = segments[position]
    literal = node.literals.get(segment)
    if literal is not None and (leaf := _walk(literal, segments, position + 1, params)) is not None:
        return leaf
    if node.parameter is not None and segment:
        name, child = node.parameter
        if (leaf := _walk(child, segments, position + 1, params)) is not None:
            params[name] = segment
            return leaf
    if node.rest is not None:
        name, leaf = node.rest
        params[name] = "/".join(segments[position:])
        return leaf
    return None


class Router:
    """A Responder that picks another one.

    404 when no pattern matches; 405 with Allow when one does but not with that method (RFC 9110 §15.5.6). GET answers
    HEAD as well, and OPTIONS is answered with what is allowed, unless a route says otherwise.
    """

    def __init__(self) -> None:
        self._default = _Table()
        self._hosts: dict[str, _Table] = {}

    def add(
        self,
        pattern: str,
        responder: Responder,
        *,
        methods: Iterable[str] = ("GET",),
        host: str = "",
        filters: Iterable[Filter] = (),
    ) -> None:
        """Route ``pattern`` (on ``host``: exact, or ``*.example.com``; empty for any) to ``responder``.

        ``methods`` of ``("*",)`` takes every method. ValueError when the pattern is malformed or already taken.
        """
        _check_pattern(pattern)
        leaf = (self._hosts.setdefault(host.lower(), _Table()) if host else self._default).leaf(pattern)
        answer = compose(responder, *filters)
        for method in methods:
            if method in leaf.methods:
                raise ValueError(f"{method} {pattern} is routed already")
            leaf.methods[method] = answer

    def route(self, pattern: str, **options: object) -> Callable[[Responder], Responder]:
        """Add the decorated responder; the options are those of :meth:`add`."""

        def add(responder: Responder) -> Responder:
            self.add(pattern, responder, **options)  # type: ignore[arg-type]  # checked by add itself
            return responder

        return add

    def __call__(self, request: Request) -> Answer:
        """Answer by the responder that the request's host, path and method lead to; raises HttpError 404 or 405."""
        found = self._find(request)
        if found is None:
            if request.raw_path == b"*" and request.method == "OPTIONS":
                return self._server_options()
            raise HttpError(404)
        leaf, params = found
        request.route = leaf.pattern
        request.params = params
        responder = leaf.methods.get(request.method)
        if responder is None:
            responder = self._fallback(leaf, request.method)
        return responder(request)

    def routes(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield ``(host, pattern, methods)`` of every route."""
        for host, table in [("", self._default), *self._hosts.items()]:
            for leaf in [*table.exact.values(), *_leaves(table.root)]:
                yield host, leaf.pattern, tuple(leaf.methods)

    def _server_options(self) -> Response:
        """Answer ``OPTIONS *``: what is allowed somewhere on this server (RFC 9110 §9.3.7)."""
        routed = {method for _, _, methods in self.routes() for method in methods} - {"*"}
        return Response(204, headers=[("Allow", _allow(routed))])

    def _find(self, request: Request) -> tuple[_Leaf, dict[str, str]] | None:
        if self._hosts:
            for table in self._tables(request.host):
                found = table.find(request.raw_path)
                if found is not None:
                    return found
        return self._default.find(request.raw_path)

    def _tables(self, authority: str) -> Iterator[_Table]:
        host = authority.rsplit(":", 1)[0] if not authority.endswith("]") else authority
        exact = self._hosts.get(host)
        if exact is not None:
            yield exact
        while "." in host:
            host = host.split(".", 1)[1]
            wildcard = self._hosts.get("*." + host)
            if wildcard is not None:
                yield wildcard

    @staticmethod
    def _fallback(leaf: _Leaf, method: str) -> Responder:
        methods = leaf.methods
        if method == "HEAD" and "GET" in methods:
            return methods["GET"]
        if "*" in methods:
            return methods["*"]
        allow = _allow(methods)
        if method == "OPTIONS":
            return lambda _: Response(204, headers=[("Allow", allow)])
        raise HttpError(405, headers=[("Allow", allow)])


def _allow(methods: Iterable[str]) -> str:
    """Write an Allow field: the routed methods, and what is answered for each route without being routed."""
    allowed = {*methods, "OPTIONS"}
    return ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))


def _leaves(node: _Node) -> Iterator[_Leaf]:
    if node.leaf is not None:
        yield node.leaf
    if node.rest is not None:
        yield node.rest[1]
    children = list(node.literals.values())
    if node.parameter is not None:
        children.append(node.parameter[1])
    for child in children:
        yield from _leaves(child)
