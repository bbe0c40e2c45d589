"""Streams of the page: only to those whom something can be told, few of each client, none for ever.

One ends once nothing of its session runs any more; the page opens another with its next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlm_dlm.errors import QueueFullError
from vlm_dlm.shares import Shares
from vlm_dlm_app.http.disconnect import ended
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.boundary import found_in
from vlm_dlm_app.page.handlers import Takes
from vlm_dlm_app.page.leaving import SESSION_KEY, session_of
from vlm_dlm_app.page.taking import sending

if TYPE_CHECKING:
    from gradio import Blocks

LOOK_S = 1.0
IDLE_S = 15.0
UNKNOWN = "nothing is known of that session; call first"
# What Gradio's own streams end with, so that its clients open another when they need one.
_CLOSE = b'data: {"msg": "close_stream"}\n\n'
_END: Message = {"type": "http.response.body", "body": _CLOSE, "more_body": False}


class Streams:
    """Raises ApiError (404) for a session that nothing is known of, QueueFullError for one stream
    too many; `max_open` of all together, half of it of one client."""

    def __init__(self, app: ASGIApp, blocks: Blocks, max_open: int, idle_s: float = IDLE_S) -> None:
        self.app = app
        self._blocks = blocks
        self._open = Shares(max_open)
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or found_in(scope).handler.takes is not Takes.STREAM:
            await self.app(scope, receive, send)
            return
        session = self._session(scope)
        scope = {**scope, SESSION_KEY: session}
        with self._place(scope.get("state", {}).get("client", "")):
            await self._told(session, scope, receive, send)

    def _session(self, scope: Scope) -> str:
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]
        event_id = found_in(scope).places.get("event_id")
        session = session_of(scope) if event_id is None else self._session_of_event(event_id)
        if session is None:
            raise ApiError("invalid_value", "session_hash is required", "session_hash")
        if session not in queue.pending_messages_per_session:
            raise ApiError("not_found", UNKNOWN)
        return session

    def _session_of_event(self, event_id: str) -> str:
        """Whoever called without naming a session has one with the name of the event."""
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]
        event = queue.event_ids_to_events.get(event_id)
        if event is not None:
            return event.session_hash
        known = queue.pending_event_ids_session.items()
        return next((name for name, ids in known if event_id in ids), event_id)

    @contextmanager
    def _place(self, client: str) -> Generator[None]:
        if self._open.is_full():
            raise QueueFullError(
                "as many streams of the page are open as may be (max_page_streams)"
            )
        if self._open.is_over(client):
            raise QueueFullError(
                "as many streams of the page are open as one client may have (max_page_streams)"
            )
        with self._open.taken(client):
            yield

    async def _told(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's stream, until it ends or there is nothing to tell."""
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]

        def is_lost() -> bool:
            return session not in queue.pending_messages_per_session

        telling = _Telling(send, is_lost, lambda: self._is_busy(session), self._idle_s)
        watching = asyncio.create_task(telling.watch(receive))
        try:
            with sending():
                await self.app(scope, telling.received, telling.sent)
        except Exception:
            # Gradio's own, of a session that another stream has ended in the same moment
            if not telling.give_up():
                raise
        finally:
            await ended(watching)
        await telling.close()

    def _is_busy(self, session: str) -> bool:
        queue = self._blocks._queue  # pyright: ignore[reportPrivateUsage]
        events = queue.event_ids_to_events.values()
        return any(event.session_hash == session for event in events)


class _Telling:
    """One stream. Whoever makes it is told that its reader left once there is nothing to tell; as
    that ends it within what is being sent, it is not said while anything is.

    is_lost: another stream of the session has ended, and what was to be told went with it; Gradio
    makes an error of that, in the middle of an answer.
    """

    def __init__(
        self,
        send: Send,
        is_lost: Callable[[], bool],
        is_busy: Callable[[], bool],
        idle_s: float,
    ) -> None:
        self._send = send
        self._is_lost = is_lost
        self._is_busy = is_busy
        self._idle_s = idle_s
        self._num_sending = 0
        self._has_begun = self._is_over = False
        self._ended = asyncio.Event()
        self._used_s = monotonic()

    async def sent(self, message: Message) -> None:
        if self._is_over:
            return
        self._has_begun = True
        self._num_sending += 1
        try:
            await self._send(message)
        finally:
            self._num_sending -= 1

    async def received(self) -> Message:
        """Gradio asks all the time, and gives up at once if it has to wait."""
        if self._is_lost():
            self._finish()
        await self._ended.wait()
        return {"type": "http.disconnect"}

    def give_up(self) -> bool:
        """Whether it is no fault that it broke off: what was to be told went elsewhere."""
        if self._is_lost():
            self._finish()
        return self._is_over

    async def close(self) -> None:
        """After the last message, where it was ended here. Raises ApiError (404) where there was
        none: its session has ended before it could begin."""
        if self._is_over and not self._has_begun:
            raise ApiError("not_found", UNKNOWN)
        if self._is_over:
            with suppress(OSError):
                await self._send(_END)

    async def watch(self, receive: Receive) -> None:
        """Until its reader has left, or nothing has run in the session for a while."""
        idle = asyncio.create_task(self._idle())
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._ended.set()
        finally:
            await ended(idle)

    async def _idle(self) -> None:
        """That something was sent keeps no stream open: Gradio's heartbeats never end."""
        while not self._is_over:
            if self._num_sending or self._is_busy():
                self._used_s = monotonic()
            elif self._is_lost() or monotonic() - self._used_s >= self._idle_s:
                self._finish()
                return
            await asyncio.sleep(min(LOOK_S, self._idle_s))

    def _finish(self) -> None:
        """From now on nothing is sent."""
        self._is_over = True
        self._ended.set()
