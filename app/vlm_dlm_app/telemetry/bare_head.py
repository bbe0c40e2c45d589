"""What the instrumentation of traces gets to see of a request: no more than its spans may have.

It reads the whole head before anything else does, for whoever asks: a query of 60 KB would cost
everybody's event loop 40 ms, and a long path a line in the log.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

KEPT_HEADERS = frozenset({b"traceparent"})
MAX_PATH_CHARS = 200  # those of our routes are shorter
_KEY = "vlm_dlm_whole_scope"


class Bare:
    """Outside of the instrumentation."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if len(scope["path"]) <= MAX_PATH_CHARS else "/"
        bare = {
            **scope,
            "path": path,
            "raw_path": b"",
            "query_string": b"",
            "headers": [pair for pair in scope["headers"] if pair[0] in KEPT_HEADERS],
            "server": None,
            "client": None,
            _KEY: scope,
        }
        await self.app(bare, receive, send)


class Whole:
    """Inside of it: the request as it came."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope.get(_KEY, scope), receive, send)
