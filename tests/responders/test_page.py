"""A page that is allowed nothing but what it brings along."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest

from netapp.responders.page import entry, page


def policy_of(response):
    directives = response.headers.get("content-security-policy").split(";")
    return {name: values for name, *values in (directive.split() for directive in directives)}


def hash_of(text):
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def test_exactly_its_own_style_and_script_are_allowed():
    response = page("title", "lead", "<p>main</p>", "\nlet a = '<b>';\n")
    body = response.body.decode()
    policy = policy_of(response)
    assert policy["default-src"] == ["'none'"]
    assert policy["style-src"] == [hash_of(re.search("<style>(.*)</style>", body, re.DOTALL)[1])]
    assert policy["script-src"] == [hash_of(re.search("<script>(.*)</script>", body, re.DOTALL)[1])]
    assert policy["connect-src"] == ["'self'"]


def test_without_a_script_nothing_runs():
    response = page("title", "lead", "")
    assert b"<script" not in response.body
    assert {"script-src", "connect-src"}.isdisjoint(policy_of(response))


@pytest.mark.parametrize("script", ["", "1"])
def test_it_cannot_be_framed_submitted_or_rebased(script):
    response = page("title", "lead", "", script)
    policy = policy_of(response)
    assert [policy[name] for name in ("frame-ancestors", "form-action", "base-uri")] == [["'none'"]] * 3
    assert response.headers.get("x-content-type-options") == "nosniff"
    assert response.headers.get("content-type") == "text/html; charset=utf-8"


def test_nothing_is_fetched_from_elsewhere():
    body = page("title", "lead", entry("a", "b", "c", "d", "/e")).body.decode()
    assert re.findall(r"""(?:src|url|@import|href=["']?(?:http|//))""", body) == []


def test_plain_text_stays_plain_text():
    evil = "<script>\"'&"
    body = page(evil, evil, entry(evil, evil, evil, evil, evil)).body.decode()
    assert "<script>" not in body
    assert body.count("&lt;script&gt;&quot;&#x27;&amp;") == 8


def test_an_entry_is_a_link_and_has_an_example_where_there_is_one():
    assert entry("a", "b", "c") == "<div><dt>a<small>b</small></dt><dd>c</dd></div>"
    assert entry("a", "b", "c", "d", "/e") == (
        '<div><dt><a href="/e">a</a><small>b</small></dt><dd>c<pre>d</pre></dd></div>'
    )
