"""Gradio's three large documents, made once for all who ask.

Each takes twenty milliseconds of the event loop, and differs from one request to the next by the
server's name alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm_app.page.handlers import API

PATHS = frozenset({"/", "/config", f"{API}/info"})
MAX_KEPT = 24  # paths times schemes times prefixes, which only a trusted proxy names
# Stands for the name; it is in no text of the page.
_NAME = b"name-of-this-server.invalid"

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Document:
    """One document, kept for all who ask.

    headers: all but its length.
    body: with _NAME in the place of the server's name.
    """

    headers: list[tuple[bytes, bytes]]
    body: bytes


class Documents:
    """Answers for `app` what it would answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept: OrderedDict[Key, Document] = OrderedDict()
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = _host(scope)
        if scope["type"] != "http" or scope["path"] not in PATHS or host is None:
            await self.app(scope, receive, send)
            return
        key: Key = (scope["path"], scope["scheme"], scope.get("root_path", ""))
        async with self._making:
            document = self._kept.get(key) or await self._make(key, scope, receive, send)
        if document is None:
            return
        body = document.body.replace(_NAME, host)
        headers = [*document.headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _make(self, key: Key, scope: Scope, receive: Receive, send: Send) -> Document | None:
        """None where what came is no document; it has been handed on."""
        headers = [
            pair for pair in scope["headers"] if pair[0] not in (b"host", b"accept-encoding")
        ]
        collected: list[Message] = []

        async def collect(message: Message) -> None:
            collected.append(message)

        inner = {**scope, "headers": [*headers, (b"host", _NAME)]}
        await self.app(inner, receive, collect)
        if not collected or collected[0].get("status") != 200:
            for message in collected:
                await send(message)
            return None
        document = Document(
            [pair for pair in collected[0]["headers"] if pair[0].lower() != b"content-length"],
            b"".join(message.get("body", b"") for message in collected[1:]),
        )
        self._kept[key] = document
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return document


def _host(scope: Scope) -> bytes | None:
    """As the client calls this server; the boundary has looked at its form."""
    return next((value for name, value in scope["headers"] if name == b"host"), None)
