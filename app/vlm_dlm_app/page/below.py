"""Below a path of its host: Gradio is shown the address that the browser has, and makes its own
addresses from that. All else sees the server's own paths."""

from __future__ import annotations

from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send


class Below:
    """Puts `root_path`, which the server's own paths are without, before the path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prefix = scope.get("root_path", "")
        if scope["type"] == "http" and prefix:
            path = f"{prefix}{scope['path']}"
            scope = {**scope, "path": path, "raw_path": quote(path).encode("ascii")}
        await self.app(scope, receive, send)
