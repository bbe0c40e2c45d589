"""Knows the requests that do work, and turns new ones away while the server drains."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm.errors import UnavailableError
from vlm_dlm_app.http.lifecycle import DRAINING, Lifecycle
from vlm_dlm_app.http.middleware.gate import SAFE_METHODS
from vlm_dlm_app.telemetry.metrics import Metrics


class Door:
    """Raises UnavailableError for a request that comes while the server drains, and for one that
    is ended before its answer began."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        if self.lifecycle.is_draining:
            self.metrics.count_refusal(UnavailableError.code)
            raise UnavailableError(DRAINING, self.lifecycle.retry_after_s)
        with self.lifecycle.request() as opened:

            async def watched(message: Message) -> None:
                opened.has_begun = True
                await send(message)

            await self.app(scope, receive, watched)
