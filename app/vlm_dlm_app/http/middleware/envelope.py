"""What goes around every request: its id, headers for browsers, one line in the log at its end."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm_app.http.auth import client_hash
from vlm_dlm_app.http.middleware.gate import PROBE_PATHS

logger = logging.getLogger("vlm_dlm_app.requests")
ID_HEADER = "X-Request-Id"
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
MAX_PATH_CHARS = 120
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Envelope:
    """A client's own X-Request-Id is taken if it is short and plain, and used for nothing but the
    reply and the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        reply = _Reply(send, request_id)
        began_s = perf_counter()
        try:
            await self.app(scope, receive, reply.send)
        finally:
            _log(scope, reply, perf_counter() - began_s)


class _Reply:
    """Adds headers to an answer and remembers how far it came."""

    def __init__(self, send: Send, request_id: str) -> None:
        self.status: int | None = None
        self.is_complete = False
        self._send = send
        self._headers: Mapping[str, str] = {**SECURITY_HEADERS, ID_HEADER: request_id}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.is_complete = True


def _request_id(headers: Headers) -> str:
    given = headers.getlist(ID_HEADER)
    return given[0] if len(given) == 1 and _ID.fullmatch(given[0]) else uuid4().hex


def _log(scope: Scope, reply: _Reply, seconds: float) -> None:
    """Values are ours, or quoted: no client can write a line of its own."""
    state: dict[str, Any] = scope["state"]
    level = logging.DEBUG if PROBE_PATHS.fullmatch(scope["path"]) else logging.INFO
    pairs = {
        "request": state["request_id"],
        "client": client_hash(state["client"]) if "client" in state else "-",
        "method": quote(scope["method"]),
        "path": quote(scope["path"][:MAX_PATH_CHARS]),
        "status": reply.status if reply.status is not None else "-",
        "cause": state.get("error_code") or (None if reply.is_complete else "left"),
        "ms": f"{seconds * 1000:.1f}",
    }
    given = (f"{name}={value}" for name, value in pairs.items() if value is not None)
    logger.log(level, "%s", " ".join(given))
