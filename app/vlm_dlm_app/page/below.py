"""Below a path of its host: Gradio is shown the address that the browser has, and makes its own
addresses from that. All else sees the server's own paths."""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# In Gradio's document, where all else is relative to the page. An icon that is not named is looked
# for at the root of the host.
_ABSOLUTE = b'<link rel="manifest" href="/manifest.json" />'
_RELATIVE = (
    b'<link rel="icon" href="./favicon.ico" /><link rel="manifest" href="./manifest.json" />'
)


class Below:
    """Puts `root_path`, which the server's own paths are without, before the path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = scope.get("root_path", "")
        if scope["type"] == "http" and prefix:
            is_document = scope["path"] == "/"
            path = f"{prefix}{scope['path']}"
            scope = {**scope, "path": path, "raw_path": quote(path).encode("ascii")}
            if is_document:
                plain = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
                scope["headers"] = plain
                send = _Document(send)
        await self.app(scope, receive, send)


class _Document:
    """Sends the page with relative addresses alone."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._chunks: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._chunks.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = b"".join(self._chunks).replace(_ABSOLUTE, _RELATIVE)
        headers = MutableHeaders(scope=self._start)
        headers["Content-Length"] = str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})
