"""What netapp serves over HTTP where nothing is configured: a page about itself, a greeting, and two echoes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netapp.http.accept import preferred
from netapp.http.message import EMPTY_BODY, TEXT, Response
from netapp.http.router import Router
from netapp.responders.page import base_url, entry, page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from netapp.http.headers import RawHeaders
    from netapp.http.message import Body, Request
    from netapp.http.responder import Answer, Responder

HELLO = b"Hello, World!"

_OCTETS = (b"content-type", b"application/octet-stream")
# whatever a page makes somebody's browser post here comes back as data, never as a document of this origin
_INERT = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"default-src 'none'; sandbox")]

_SCRIPT = """
const form = document.forms[0], log = document.querySelector("output");
let socket;
function show(line) { log.textContent += line + "\\n"; }
function connect() {
  const url = new URL("/ws/echo", location);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onmessage = message => show("received  " + message.data);
  socket.onclose = end => { show("closed  " + end.code); socket = undefined; };
  return new Promise(ready => { socket.onopen = ready; });
}
form.onsubmit = async event => {
  event.preventDefault();
  if (!socket) await connect();
  socket.send(form.text.value);
  show("sent  " + form.text.value);
};
"""
_FORM = """<form><input name="text" value="hello" aria-label="message"><button>Send over WebSocket</button></form>
<output></output>"""

_OTHERS = (
    ("calculator", "port 7777", "Protocol buffers over TCP.", "netapp call add 2 3\nnetapp call echo hello"),
    ("echo", "port 7007", "Every byte comes back.", "nc 127.0.0.1 7007"),
    ("admin", "port 9090", "Health, metrics and connections.", "curl http://127.0.0.1:9090/"),
)


def welcome_router(websocket: Responder | None = None) -> Router:
    """Route ``/``, ``/hello`` and ``/echo``, and ``/ws/echo`` to ``websocket`` where there is one."""
    router = Router()
    has_websocket = websocket is not None
    router.add("/", lambda request: index(request, websocket=has_websocket))
    router.add("/hello", hello)
    router.add("/echo", echo, methods=("*",))
    if websocket is not None:
        router.add("/ws/echo", websocket)
    return router


def hello(_: Request) -> Response:
    """Greet."""
    return Response.of(200, HELLO, [TEXT])


def echo(request: Request) -> Answer:
    """Send the request's content back with its type, piece by piece: it is read at the pace at which it is taken."""
    kept = {name: value for name, value in request.headers.raw if name in {b"content-type", b"content-length"}}
    fields = [(b"content-type", kept.get(b"content-type", _OCTETS[1])), *_INERT]
    if request.body is EMPTY_BODY:
        return Response.of(200, b"", fields)
    if b"content-length" in kept:
        fields.append((b"content-length", kept[b"content-length"]))
    return _echo(request.body, fields)


async def _echo(body: Body, fields: RawHeaders) -> Response:
    # The head waits for the first piece: a client that expects 100 (Continue) must have it before the final status
    # (RFC 9110 §10.1.1), and content that is refused at once can still be answered with what is wrong with it.
    pieces = aiter(body)
    first = await anext(pieces, b"")
    return Response.of(200, _joined(first, pieces), fields)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def index(request: Request, *, websocket: bool = True) -> Response:
    """Tell what is served here and how to try it: as HTML, or as plain text to a client that prefers it."""
    entries = _entries(base_url(request, "127.0.0.1:8080"), websocket=websocket)
    if preferred(request.headers.get("accept") or "", "text/html", "text/plain") == "text/html":
        response = _html(entries, websocket=websocket)
    else:
        response = Response.of(200, _text(entries).encode(), [TEXT])
    response.headers.set("Vary", "Accept")
    return response


def _entries(base: str, *, websocket: bool) -> list[tuple[str, str, str, str]]:
    entries = [
        ("/hello", "GET", "Answers Hello, World!", f"curl {base}/hello"),
        ("/echo", "any method", "Sends the content back.", f"curl --data-binary 'some text' {base}/echo"),
    ]
    if websocket:
        base = base.replace("http", "ws", 1)
        entries.append(("/ws/echo", "WebSocket", f"Sends every message back: {base}/ws/echo", ""))
    return entries


def _html(entries: list[tuple[str, str, str, str]], *, websocket: bool) -> Response:
    listed = "".join(entry(*each, href=each[0] if each[0] == "/hello" else "") for each in entries)
    others = "".join(entry(*each) for each in _OTHERS)
    main = (
        f"<h2>On this port</h2>\n<dl>{listed}</dl>\n{_FORM if websocket else ''}\n"
        f"<h2>On other ports, unless they were moved</h2>\n<dl>{others}</dl>"
    )
    return page("netapp is running", "HTTP, WebSocket and TCP services on Twisted.", main, _SCRIPT if websocket else "")


def _text(entries: list[tuple[str, str, str, str]]) -> str:
    lines = ["netapp is running", "", "On this port:"]
    lines += [_line(*each) for each in entries]
    lines += ["", "On other ports, unless they were moved:"]
    lines += [_line(*each) for each in _OTHERS]
    return "\n".join(lines) + "\n"


def _line(name: str, note: str, about: str, command: str) -> str:
    return f"  {name} ({note}): {about}" + "".join(f"\n      {line}" for line in command.splitlines())
