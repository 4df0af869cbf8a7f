"""A small HTML page that needs nothing from elsewhere, and is allowed nothing from elsewhere."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING

from netapp.http.message import HTML, Response

if TYPE_CHECKING:
    from netapp.http.message import Request

_PLAIN_HOST = re.compile(r"[a-z0-9.-]+(:[0-9]+)?|\[[0-9a-f:.]+\](:[0-9]+)?")

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0a7d6c; }
@media (prefers-color-scheme: dark) { :root { --accent: #4fd1bd; } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 3rem 1.25rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
.lead { margin: 0; opacity: .75; }
dl { margin: 0; border-top: 1px solid var(--line); }
dl > div { padding: .8rem 0; border-bottom: 1px solid var(--line); }
dt { font-weight: 600; }
dt small { font-weight: 400; opacity: .65; margin-left: .4rem; }
dd { margin: .15rem 0 0; }
a { color: var(--accent); }
code, pre, output { font: 14px/1.5 ui-monospace, monospace; }
pre { margin: .4rem 0 0; padding: .5rem .7rem; background: var(--soft); border-radius: 6px; overflow-x: auto; }
form { display: flex; gap: .5rem; margin: .5rem 0; }
input { flex: 1; font: inherit; padding: .3rem .6rem; }
button { font: inherit; padding: .3rem 1rem; }
output { display: block; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def page(title: str, lead: str, main: str, script: str = "") -> Response:
    """Make the page: ``title`` and ``lead`` are plain text, ``main`` is HTML, and ``script`` runs behind it.

    Its Content-Security-Policy (https://www.w3.org/TR/CSP3/) allows this style and this script by their hashes,
    connections to the page's own origin, and nothing else: no other resource, no form's target, no frame around it.
    """
    text = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{main}\n'
        + (f"<script>{script}</script>\n" if script else "")
    )
    return Response.of(200, text.encode(), [HTML, *_security(script)])


def entry(name: str, note: str, about: str, command: str = "", href: str = "") -> str:
    """Write one entry of a page's list, of plain text: what it is called, what it does, and how to try it."""
    label = f'<a href="{escape(href)}">{escape(name)}</a>' if href else escape(name)
    example = f"<pre>{escape(command)}</pre>" if command else ""
    return f"<div><dt>{label}<small>{escape(note)}</small></dt><dd>{escape(about)}{example}</dd></div>"


def base_url(request: Request, default: str) -> str:
    """Return ``http://host:port`` as the client reached us, for examples; ``default`` where a shell would mind it."""
    return f"{request.scheme}://{request.host if _PLAIN_HOST.fullmatch(request.host) else default}"


def _security(script: str) -> list[tuple[bytes, bytes]]:
    policy = (
        f"default-src 'none'; style-src {_hash(STYLE)}; "
        + (f"script-src {_hash(script)}; connect-src 'self'; " if script else "")
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
