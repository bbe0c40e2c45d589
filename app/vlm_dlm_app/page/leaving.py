"""Notices when a visitor leaves: the stream that tells them what happens breaks off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm_app.page.handlers import API

STREAM_PATH = f"{API}/queue/data"
SESSION_KEY = "vlm_dlm_page_session"  # in the scope, set by `streams.py`


class Followers:
    """Whose stream is open. on_left: gets the session of one that was not sent whole."""

    def __init__(self) -> None:
        self.on_left: Callable[[str], None] = lambda _: None
        self._num_open: Counter[str] = Counter()

    def has(self, session: str) -> bool:
        """Whether anybody is told what happens in the session."""
        return self._num_open[session] > 0

    def come(self, session: str) -> None:
        """A stream begins."""
        self._num_open[session] += 1

    def go(self, session: str, is_whole: bool) -> None:
        """A stream ends."""
        self._num_open[session] -= 1
        if not self._num_open[session]:
            del self._num_open[session]
            if not is_whole:
                self.on_left(session)


class Leaving:
    """Around Gradio's application, which itself looks for them every ten seconds."""

    def __init__(self, app: ASGIApp, followers: Followers) -> None:
        self.app = app
        self.followers = followers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = session_of(scope)
        if session is None:
            await self.app(scope, receive, send)
            return
        is_whole = is_gone = False

        async def watched(message: Message) -> None:
            nonlocal is_whole
            await send(message)
            is_end = message["type"] == "http.response.body" and not message.get("more_body", False)
            is_whole = is_whole or is_end

        async def heard() -> Message:
            # Gradio looks too; if it is the first to see it, the stream ends as if it were whole.
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or (message["type"] == "http.disconnect" and not is_whole)
            return message

        self.followers.come(session)
        try:
            await self.app(scope, heard, watched)
        finally:
            self.followers.go(session, is_whole and not is_gone)


def session_of(scope: Scope) -> str | None:
    """Whose stream is asked for; None for any other request."""
    if SESSION_KEY in scope:
        return scope[SESSION_KEY]
    is_get = scope["type"] == "http" and scope["method"] == "GET"
    if not is_get or scope["path"] != STREAM_PATH:
        return None
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return next(iter(query.get("session_hash", [])), None)
