"""What one session has not read yet of what its calls gave, counted to its client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import finalize

from gradio.server_messages import ProcessCompletedMessage
from gradio.utils import LRUCache

from vlm_dlm.errors import QueueFullError
from vlm_dlm_app.http.held_bytes import NODE_BYTES, Hold, size_of
from vlm_dlm_app.page.taking import let_go_of_sent, take

FULL = "More of what the page gives waits unread than fits into memory. Try again."


class Unread(LRUCache[str, Any]):
    """In the place of Gradio's queues by session. Each of several streams of a session deletes the
    one they share."""

    def __delitem__(self, session: str) -> None:
        if session in self:
            super().__delitem__(session)  # pyright: ignore[reportUnknownMemberType]


class Messages(asyncio.Queue[Any]):
    """In the place of Gradio's queue of a session. What does not fit is let go of, with all before
    it, and the calls end with a sentence. on_full: called then. Its hold goes when it goes."""

    def __init__(self, hold: Hold, on_full: Callable[[], None]) -> None:
        super().__init__()
        self._hold = hold
        self._on_full = on_full
        self._sizes: deque[int] = deque()
        self._is_full = False
        self.read_s = monotonic()
        finalize(self, hold.let_go)

    def put_nowait(self, item: Any) -> None:
        """Never fails."""
        num_bytes = 0
        if not self._is_full:
            num_bytes = size_of(getattr(item, "output", None)) + NODE_BYTES
            try:
                self._hold.grow_to(self._hold.num_bytes + num_bytes)
            except QueueFullError:
                self._give_up()
        if self._is_full:
            if not isinstance(item, ProcessCompletedMessage):
                return
            num_bytes, item = 0, _failed(item.event_id)
        self._sizes.append(num_bytes)
        super().put_nowait(item)

    async def get(self) -> Any:
        """As the queue's own; somebody reads, and has sent what was taken before."""
        self.read_s = monotonic()
        let_go_of_sent()
        return await super().get()

    def get_nowait(self) -> Any:
        """As the queue's own."""
        item = super().get_nowait()
        take(self._hold, self._sizes.popleft())
        self.read_s = monotonic()
        return item

    def _give_up(self) -> None:
        ended: list[Any] = []
        while not self.empty():
            item = super().get_nowait()
            if isinstance(item, ProcessCompletedMessage):
                ended.append(item)
        self._is_full = True
        self._sizes.clear()
        self._hold.let_go()
        for item in ended:
            self.put_nowait(item)
        self._on_full()


def _failed(event_id: str | None) -> ProcessCompletedMessage:
    output = {"error": FULL, "visible": True, "duration": 10, "title": "Error"}
    return ProcessCompletedMessage(output=output, success=False, event_id=event_id)
