"""`OPTIONS *`: a question to the server as a whole, which no route can take."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = "GET, HEAD, POST, OPTIONS"


class Asterisk:
    """Answers it with the methods that some address here takes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "*":
            await Response(status_code=204, headers={"Allow": METHODS})(scope, receive, send)
            return
        await self.app(scope, receive, send)
