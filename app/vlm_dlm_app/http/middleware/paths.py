"""Addresses with a slash too many, or with /v1 missing or doubled, as base URLs are easily given.

Everything further in sees the plain address alone, so that keys, limits and the page's list of
addresses judge the one that is served. Only addresses that clients ask questions at are ever put in
place of another.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from vlm_dlm_app.http.addresses import Addresses


class Paths:
    """Serves what is clearly meant; any other path goes on as it is."""

    def __init__(self, app: ASGIApp, addresses: Addresses) -> None:
        self.app = app
        self.addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = self.addresses.meant(scope["path"])
            if path is not None:
                scope = {**scope, "path": path, "raw_path": path.encode("utf-8")}
        await self.app(scope, receive, send)
