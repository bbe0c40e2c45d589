"""Gradio's three large documents, made once for all who ask.

Each takes twenty milliseconds of the event loop, and differs from one request to the next by the
server's name alone.
"""

from __future__ import annotations

from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.page.collecting import Collected, KeptAnswers, collected
from vlm_dlm_app.page.handlers import API

PATHS = frozenset({"/", "/config", f"{API}/info"})
MAX_KEPT = 24  # paths times schemes times prefixes, which only a trusted proxy names
# Stands for the name; it is in no text of the page.
_NAME = b"name-of-this-server.invalid"

Key = tuple[str, str, str]


class Documents:
    """Answers for `app` what it would answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._kept = KeptAnswers(MAX_KEPT, lambda _: 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = _host(scope)
        if scope["type"] != "http" or scope["path"] not in PATHS or host is None:
            await self.app(scope, receive, send)
            return
        key: Key = (scope["path"], scope["scheme"], scope.get("root_path", ""))
        answer = await self._kept.get(key, lambda: self._make(key, scope, receive))
        if answer is not None and answer.status == 200:
            answer = _named(answer, host)
        if answer is not None:
            await answer.send_to(send)

    async def _make(self, key: Key, scope: Scope, receive: Receive) -> Collected | None:
        """With _NAME in the place of the server's name; kept if it is a document."""
        headers = [
            pair for pair in scope["headers"] if pair[0] not in (b"host", b"accept-encoding")
        ]
        inner = {**scope, "headers": [*headers, (b"host", _NAME)]}
        answer = await collected(self.app, inner, receive)
        if answer is not None and answer.status == 200:
            self._kept.keep(key, answer)
        return answer


def _named(answer: Collected, host: bytes) -> Collected:
    body = answer.body.replace(_NAME, host)
    headers = [pair for pair in answer.headers if pair[0].lower() != b"content-length"]
    length = (b"content-length", str(len(body)).encode())
    return replace(answer, headers=[*headers, length], body=body)


def _host(scope: Scope) -> bytes | None:
    """As the client calls this server; the boundary has looked at its form."""
    return next((value for name, value in scope["headers"] if name == b"host"), None)
