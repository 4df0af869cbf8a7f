"""Routing: by host, path and method, in time that does not depend on the number of routes."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netapp.http import Headers, HttpError, Request, Response, Router
from netapp.peer import Peer


def request(path, method="GET", host=""):
    return Request(method, path.encode() if isinstance(path, str) else path, Headers(), Peer("c"), host=host)


def named(name):
    return lambda _: Response.text(name)


def reached(router, path, method="GET", host=""):
    """Say which responder answers (they answer with their names), or the status of the error."""
    asked = request(path, method, host)
    try:
        response = router(asked)
    except HttpError as error:
        return error.status, dict(error.headers)
    return response.body.decode(), asked.params


@pytest.fixture
def users():
    router = Router()
    router.add("/users", named("all"))
    router.add("/users/{id}", named("one"))
    router.add("/users/me", named("me"))
    router.add("/users/{id}/posts/{post}", named("post"))
    router.add("/files/{rest:path}", named("file"))
    return router


@pytest.mark.parametrize(
    ("path", "name", "params"),
    [
        ("/users", "all", {}),
        ("/users/7", "one", {"id": "7"}),
        ("/users/me", "me", {}),
        ("/users/me/posts/1", "post", {"id": "me", "post": "1"}),
        ("/files/", "file", {"rest": ""}),
        ("/files/a//b", "file", {"rest": "a//b"}),
        ("/users/a%20b", "one", {"id": "a b"}),
        ("/users/%C3%A9", "one", {"id": "é"}),
        ("/users?x=/y", "all", {}),
    ],
)
def test_a_path_leads_to_its_pattern(users, path, name, params):
    assert reached(users, path) == (name, params)


@pytest.mark.parametrize("path", ["/", "/user", "/users/", "/users//posts/1", "/users/7/posts", "/files", "*", ""])
def test_what_no_pattern_matches_is_not_found(users, path):
    assert reached(users, path) == (404, {})


def test_an_encoded_slash_never_separates(users):
    assert reached(users, "/users/a%2Fb") == ("one", {"id": "a/b"})
    assert reached(users, "/users/a%2fposts%2fb") == ("one", {"id": "a/posts/b"})
    assert reached(users, "/users%2Fme") == (404, {})


@pytest.mark.parametrize("path", ["/users/%6De", "/%75sers/me", "/users/m%65"])
def test_a_literal_wins_in_every_spelling(users, path):
    """Or a guard on the literal route could be passed by writing one letter differently."""
    assert reached(users, path) == ("me", {})


def test_an_escape_is_undone_once(users):
    assert reached(users, "/users/%256De") == ("one", {"id": "%6De"})


def test_the_request_is_told_the_pattern_that_matched(users):
    asked = request("/users/7")
    users(asked)
    assert asked.route == "/users/{id}"
    asked = request("/nothing")
    with pytest.raises(HttpError):
        users(asked)
    assert asked.route == ""


def test_the_wrong_method_is_told_which_ones_are_right():
    router = Router()
    router.add("/a", named("a"), methods=("GET", "PUT"))
    assert reached(router, "/a", "DELETE") == (405, {"Allow": "GET, HEAD, OPTIONS, PUT"})
    router.add("/b", named("b"), methods=("POST",))
    assert reached(router, "/b") == (405, {"Allow": "OPTIONS, POST"})
    assert reached(router, "/b", "HEAD") == (405, {"Allow": "OPTIONS, POST"})


def test_options_tells_what_is_allowed():
    router = Router()
    router.add("/a", named("a"))
    response = router(request("/a", "OPTIONS"))
    assert (response.status, response.body, response.headers.get("allow")) == (204, b"", "GET, HEAD, OPTIONS")


def test_a_route_may_answer_options_and_head_itself():
    router = Router()
    for method in ("GET", "HEAD", "OPTIONS"):
        router.add("/a", named(method), methods=(method,))
    assert [reached(router, "/a", method)[0] for method in ("GET", "HEAD", "OPTIONS")] == ["GET", "HEAD", "OPTIONS"]


def test_a_star_takes_the_methods_that_no_other_route_names():
    router = Router()
    router.add("/a", named("get"))
    router.add("/a", named("any"), methods=("*",))
    found = [reached(router, "/a", method)[0] for method in ("GET", "HEAD", "OPTIONS", "POST", "PROPFIND")]
    assert found == ["get", "get", "any", "any", "any"]


def test_a_route_has_filters_of_its_own():
    def twice(responder):
        return lambda request: Response.text((responder(request).body * 2).decode())

    router = Router()
    router.add("/a", named("a"), filters=[twice])
    assert reached(router, "/a") == ("aa", {})


def test_a_route_can_be_added_with_a_decorator():
    router = Router()

    @router.route("/a", methods=("POST",))
    def respond(_):
        return Response.text("a")

    assert reached(router, "/a", "POST") == ("a", {})
    assert respond(None).body == b"a"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", "default"),
        ("other.org", "default"),
        ("example.com", "exact"),
        ("example.com:8080", "exact"),
        ("a.example.com", "wildcard"),
        ("a.b.example.com:80", "wildcard"),
        ("www.example.com", "www"),
        ("notexample.com", "default"),
        ("[::1]", "six"),
        ("[::1]:8080", "six"),
    ],
)
def test_the_most_specific_host_answers(host, name):
    router = Router()
    for pattern, known in [
        ("", "default"),
        ("Example.com", "exact"),
        ("*.example.com", "wildcard"),
        ("www.example.com", "www"),
        ("[::1]", "six"),
    ]:
        router.add("/", named(known), host=pattern)
    assert reached(router, "/", host=host) == (name, {})


def test_what_a_host_does_not_have_is_looked_for_in_the_wider_ones():
    router = Router()
    router.add("/", named("www"), host="www.example.com")
    router.add("/wide", named("wildcard"), host="*.example.com")
    router.add("/all", named("default"))
    assert reached(router, "/wide", host="www.example.com") == ("wildcard", {})
    assert reached(router, "/all", host="www.example.com") == ("default", {})
    assert reached(router, "/none", host="www.example.com") == (404, {})


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("users", "starts with '/'"),
        ("", "starts with '/'"),
        ("/a{id}", "a whole segment"),
        ("/{id}.html", "a whole segment"),
        ("/a}", "a whole segment"),
        ("/{}", "expected {name}"),
        ("/{1}", "expected {name}"),
        ("/{id:int}", "expected {name}"),
        ("/{rest:path}/a", "only the last segment"),
        ("/{id}/{id}", "the same name"),
        ("/{id}/{id:path}", "the same name"),
        ("/a%20b", "without escapes"),
        ("/a?b", "without escapes"),
    ],
)
def test_a_malformed_pattern_is_refused(pattern, text):
    with pytest.raises(ValueError, match=text):
        Router().add(pattern, named("x"))


@pytest.mark.parametrize("pattern", ["/a", "/{id}", "/a/{rest:path}"])
def test_a_route_cannot_be_taken_twice(pattern):
    router = Router()
    router.add(pattern, named("x"))
    with pytest.raises(ValueError, match="routed already"):
        router.add(pattern, named("y"))
    router.add(pattern, named("y"), methods=("POST",))
    router.add(pattern, named("z"), host="example.com")


@pytest.mark.parametrize(("first", "second"), [("/{a}/x", "/{b}/y"), ("/{a:path}", "/{b:path}")])
def test_one_place_has_one_name(first, second):
    router = Router()
    router.add(first, named("x"))
    with pytest.raises(ValueError, match="another pattern calls the parameter here 'a'"):
        router.add(second, named("y"))


def test_all_routes_can_be_listed(users):
    users.add("/users", named("new"), methods=("POST",))
    users.add("/", named("root"), host="example.com")
    assert sorted(users.routes()) == [
        ("", "/files/{rest:path}", ("GET",)),
        ("", "/users", ("GET", "POST")),
        ("", "/users/me", ("GET",)),
        ("", "/users/{id}", ("GET",)),
        ("", "/users/{id}/posts/{post}", ("GET",)),
        ("example.com", "/", ("GET",)),
    ]


# -- any table of routes, against a matcher that tries them all

LITERALS = ["a", "b", "é", "a b", ""]
LITERAL, PARAMETER, REST = range(3)


@st.composite
def patterns(draw):
    count = draw(st.integers(1, 4))
    parts = [draw(st.sampled_from([*LITERALS, f"{{p{depth}}}", f"{{p{depth}}}"])) for depth in range(count)]
    if draw(st.booleans()):
        parts[-1] = "{rest:path}"
    return "/" + "/".join(parts)


@st.composite
def spelled(draw, segment):
    """One of the many ways to write a segment."""
    if draw(st.booleans()):
        return quote(segment, safe="")
    return "".join(f"%{byte:02x}" for byte in segment.encode())


@st.composite
def paths(draw):
    segments = draw(st.lists(st.sampled_from([*LITERALS, "c", "a/b", "%61"]), min_size=1, max_size=5))
    return segments, "/" + "/".join(draw(spelled(segment)) for segment in segments)


tables = st.dictionaries(
    patterns(), st.sets(st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "*"]), min_size=1), max_size=8
)


def match(pattern, segments):
    """Return the kinds and the parameters with which a pattern matches, or None."""
    parts = pattern[1:].split("/")
    kinds, params = [], {}
    for position, part in enumerate(parts):
        if part == "{rest:path}":
            if position >= len(segments):
                return None
            params["rest"] = "/".join(segments[position:])
            return [*kinds, REST], params
        if position >= len(segments):
            return None
        if part.startswith("{"):
            if not segments[position]:
                return None
            params[part[1:-1]] = segments[position]
            kinds.append(PARAMETER)
        elif part == segments[position]:
            kinds.append(LITERAL)
        else:
            return None
    return (kinds, params) if len(parts) == len(segments) else None


def expected(table, segments, method):
    found = [(*matched, pattern) for pattern in table if (matched := match(pattern, segments))]
    if not found:
        return 404, {}
    _, params, pattern = min(found, key=lambda each: each[0])
    methods = table[pattern]
    if method in methods:
        return f"{method} {pattern}", params
    if method == "HEAD" and "GET" in methods:
        return f"GET {pattern}", params
    if "*" in methods:
        return f"* {pattern}", params
    allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    allow = {"Allow": ", ".join(sorted(allowed))}
    return ("OPTIONS", allow) if method == "OPTIONS" else (405, allow)


@given(tables, paths(), st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE"]))
def test_any_table_routes_as_one_that_tries_every_pattern(table, path, method):
    router = Router()
    for pattern, methods in table.items():
        for each in methods:
            router.add(pattern, named(f"{each} {pattern}"), methods=(each,))
    segments, target = path
    asked = request(target, method)
    try:
        response = router(asked)
    except HttpError as error:
        found = error.status, dict(error.headers)
    else:
        own = response.status == 204
        found = ("OPTIONS", {"Allow": response.headers.get("allow")}) if own else (response.body.decode(), asked.params)
    assert found == expected(table, segments, method)


def test_options_of_the_whole_server_tells_every_method_that_is_routed():
    router = Router()
    router.add("/a", lambda _: Response(200))
    router.add("/b", lambda _: Response(200), methods=("POST",))
    answer = router(Request("OPTIONS", b"*", Headers(), Peer("x")))
    assert (answer.status, answer.headers.get("allow")) == (204, "GET, HEAD, OPTIONS, POST")
