"""The last resort: whatever is raised becomes an answer that says nothing about our inside."""

from __future__ import annotations

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm_app.http.errors import error_response, note_error, to_api_error

logger = logging.getLogger(__name__)


class Guard:
    """Answers for what is raised further in. An answer that began cannot be taken back: it breaks
    off, which its reader notices."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            answer = to_api_error(error)
            note_error(scope, answer.code)
            if answer.status == 500:
                logger.error("a request failed", exc_info=error)
            if not has_started and not isinstance(error, ClientDisconnect):
                await error_response(answer)(scope, receive, send)
