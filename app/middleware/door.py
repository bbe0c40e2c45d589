"""Counts requests that do work, and turns new ones away while the server drains."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.lifecycle import Lifecycle
from app.metrics import Metrics
from app.middleware.gate import SAFE_METHODS
from vlm_dlm.errors import UnavailableError


class Door:
    """retry_after_s: asked when one is turned away, whole seconds."""

    def __init__(
        self,
        app: ASGIApp,
        lifecycle: Lifecycle,
        metrics: Metrics,
        retry_after_s: Callable[[], int],
    ) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        if self.lifecycle.is_draining:
            self.metrics.count_refusal(UnavailableError.code)
            message = "the server is shutting down and takes no new requests"
            raise UnavailableError(message, self.retry_after_s())
        self.lifecycle.enter()
        try:
            await self.app(scope, receive, send)
        finally:
            self.lifecycle.leave()
