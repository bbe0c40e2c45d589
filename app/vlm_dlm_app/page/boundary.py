"""Between the page and Gradio: it sees what a handler needs, and its errors become ours."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, quote, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm.errors import VlmDlmError
from vlm_dlm_app.http.errors import INTERNAL_MESSAGE, NO_ADDRESS, ApiError
from vlm_dlm_app.http.header_values import is_host
from vlm_dlm_app.page.handlers import Found, Takes, find_handler, form_of

# What Gradio gets of a request's head. All else stays outside: other names of this server
# (X-Forwarded-Host, X-Gradio-Server), pieces of files (Range), cookies. A part that lets a trusted
# proxy say under which prefix the page stands adds to the scope's root_path, not to this list.
KEPT_HEADERS = frozenset(
    {
        *(b"host", b"accept", b"accept-encoding", b"accept-language", b"content-type"),
        *(b"content-length", b"origin", b"user-agent", b"if-none-match", b"if-modified-since"),
    }
)
MCP_HEADERS = frozenset({b"mcp-session-id", b"mcp-protocol-version", b"last-event-id"})
HANDLER_KEY = "vlm_dlm_page_handler"


class Boundary:
    """Refuses (404, 405) what no handler is listed for. Leaves the handler where `found_in` finds
    it. An answer of Gradio's that is an error is raised as ApiError in its place."""

    def __init__(self, app: ASGIApp, has_mcp: bool) -> None:
        self.app = app
        self.has_mcp = has_mcp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        found = find_handler(scope["method"], scope["path"], self.has_mcp)
        inner = _inner(scope, found)
        if found.handler.is_own or found.handler.takes is Takes.MCP:
            # ours are right already; clients of MCP read the bodies of its errors
            await self.app(inner, receive, send)
            return
        status = 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if status < 400:
                await send(message)

        await self.app(inner, receive, answered)
        if status >= 400:
            raise _refusal(status)


def found_in(scope: Scope) -> Found:
    """The handler of a request that came through the boundary."""
    return scope[HANDLER_KEY]


def _inner(scope: Scope, found: Found) -> Scope:
    """The request as it is shown to what stands inside. Raises ApiError (400)."""
    handler = found.handler
    kept = KEPT_HEADERS | MCP_HEADERS if handler.takes is Takes.MCP else KEPT_HEADERS
    headers = [(name, value) for name, value in scope["headers"] if name in kept]
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or not all(is_host(host.decode("latin-1")) for host in hosts):
        raise ApiError("bad_request", "the Host header is not the name of a server")
    query = urlencode(_query(scope["query_string"], handler.query))
    path = scope["path"]
    return {
        **scope,
        "headers": headers,
        "query_string": query.encode("ascii"),
        "raw_path": quote(path).encode("ascii"),
        HANDLER_KEY: found,
    }


def _query(given: bytes, names: tuple[str, ...]) -> Mapping[str, str]:
    """The values that the handler takes; others are for the page's own scripts."""
    if not names:
        return {}
    values = parse_qs(given[:4096].decode("latin-1"))
    found = {name: values[name][0] for name in names if name in values}
    for name, value in found.items():
        if not form_of(name).fullmatch(value):
            raise ApiError("invalid_value", f"{name} has not the form of one", name)
    return found


def _refusal(status: int) -> ApiError:
    """What Gradio says in its own words stays with it; they can name files and addresses."""
    if status in (429, 503):
        message = "too many calls of the page are waiting; try again in a moment"
        return ApiError("unavailable", message, retry_after_s=2)
    if status == 404:
        return ApiError("not_found", NO_ADDRESS)
    if status >= 500:
        return ApiError(VlmDlmError.code, INTERNAL_MESSAGE)
    return ApiError("invalid_value", "the page has no function that takes this")
