"""Finds out who is asking before any of the body is read."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.http.auth import Clients


class Keys:
    """Leaves the client's name where `client_of` finds it. Raises ApiError (401) without one."""

    def __init__(self, app: ASGIApp, clients: Clients) -> None:
        self.app = app
        self.clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["client"] = self.clients.name(scope)
        await self.app(scope, receive, send)
