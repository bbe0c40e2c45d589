"""One request in the engine: its deadline, its end, and a buffer towards whoever reads it.

A task of its own takes the events from the engine, so that a caller who reads slowly, or not at
all, keeps neither a turn nor the engine busy, and cannot outlive the deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from time import perf_counter

from vlm_dlm.engine.base import Engine
from vlm_dlm.errors import DeadlineError, UnavailableError, VlmDlmError
from vlm_dlm.events import Canvas, Failed, GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest

Item = GenerationEvent | Exception | None
LATE = "the deadline passed before the answer was complete"
SHUTTING_DOWN = "the server is shutting down"
MAX_UNREAD = 64  # events, above which canvases are dropped


class Running:
    """Begins at once. on_end: called once, when the engine is done with it; told whether the answer
    had come to an end, rather than its caller left.

    deadline_s: on the event loop's clock, None for none.
    """

    def __init__(
        self,
        engine: Engine,
        request: GenerationRequest,
        deadline_s: float | None,
        on_end: Callable[[bool], None],
    ) -> None:
        self._engine = engine
        self._request_id = request.request_id
        self._limit = asyncio.timeout_at(deadline_s)
        self._items: asyncio.Queue[Item] = asyncio.Queue()
        self._is_over = False  # the item that ends the stream is in the queue
        self._is_aborted = False
        self._on_end: Callable[[bool], None] | None = on_end
        self._task = asyncio.create_task(self._run(request))
        # A callback rather than `finally`: a task cancelled before its first step runs nothing.
        self._task.add_done_callback(lambda _: self._end())

    async def next(self) -> GenerationEvent | None:
        """The next event; None after the last. Raises what the engine raised."""
        item = await self._items.get()
        if isinstance(item, Exception):
            raise item
        return item

    def abort(self) -> None:
        """Leave the engine now. The caller gets Failed as the last event."""
        if not self._is_aborted and not self._task.done():
            self._is_aborted = True
            self._fail(UnavailableError, SHUTTING_DOWN)
            self._task.cancel()

    async def close(self) -> None:
        """Leave the engine, if that has not happened, and wait until it knows."""
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        self._end()  # its callback may be due only now

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self._is_over)

    async def _run(self, request: GenerationRequest) -> None:
        # Engine.generate is an async generator in every engine; closing it aborts.
        stream = self._engine.generate(request)
        del request  # its pixels are the engine's, who lets go of them as soon as it can
        try:
            async with self._limit, aclosing(stream):
                async for event in stream:
                    self._put(event)
                    if is_terminal(event):
                        return
            self._put(None)
        except Exception as error:
            if isinstance(error, TimeoutError) and self._limit.expired():
                self._fail(DeadlineError, LATE)
            else:
                self._put(error)

    def _fail(self, kind: type[VlmDlmError], message: str) -> None:
        self._put(Failed(self._request_id, kind.code, message, perf_counter()))

    def _put(self, item: Item) -> None:
        """Nothing follows what ends the stream."""
        is_unread = self._items.qsize() > MAX_UNREAD
        if self._is_over or (is_unread and isinstance(item, Canvas)):
            return
        self._is_over = item is None or isinstance(item, Exception) or is_terminal(item)
        self._items.put_nowait(item)
