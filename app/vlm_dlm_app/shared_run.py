"""One answer being made, and any number of readers of it, each from its first chunk on.

It belongs to nobody: it goes on while anyone follows it, and a while longer, so that who lost the
connection finds it still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from vlm_dlm.errors import EngineError
from vlm_dlm_app.errors import INTERNAL_MESSAGE

Chunks = AsyncGenerator[bytes, None]


class Run:
    """Pulls the chunks of one answer and keeps them for whoever follows."""

    def __init__(
        self, produce: Callable[[], Chunks], is_good: Callable[[], bool], linger_s: float
    ) -> None:
        self.chunks: list[bytes] = []
        self.num_bytes = 0
        self.is_done = False
        self.is_abandoned = False
        self.error: Exception | None = None
        self._num_followers = 0
        self._produce = produce
        self._is_good = is_good
        self._linger_s = linger_s
        self._lingering: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, settle: Callable[[bool], None]) -> None:
        """Begin. settle: called once at the end, True if it ended well."""
        self._task = asyncio.create_task(self._pump(settle))

    def join(self) -> None:
        """One more follows it."""
        self._num_followers += 1
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def leave(self) -> None:
        """One less does; after the last it goes on for a while, should anybody come back."""
        self._num_followers -= 1
        if not self._num_followers and not self.is_done:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self._linger_s, self.stop)

    def stop(self) -> None:
        """End it, whoever follows."""
        self.is_abandoned = not self.is_done
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Return once it has."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def chunk(self, index: int) -> bytes | None:
        """The chunk at `index` once it is there, None behind the last. Raises the run's error."""
        while index >= len(self.chunks):
            if self.error is not None:
                raise self.error
            if self.is_done:
                return None
            await self._news.wait()
        return self.chunks[index]

    async def _pump(self, settle: Callable[[bool], None]) -> None:
        try:
            async with aclosing(self._produce()) as chunks:
                async for chunk in chunks:
                    self.chunks.append(chunk)
                    self.num_bytes += len(chunk)
                    self._tell()
        except Exception as error:
            self.error = error
        except BaseException:
            self.error = EngineError(INTERNAL_MESSAGE)
            raise
        finally:
            self.is_done = True
            if self._lingering is not None:
                self._lingering.cancel()
            settle(self.error is None and self._is_good())
            self._tell()

    def _tell(self) -> None:
        """Wake who waits for more."""
        self._news.set()
        self._news = asyncio.Event()


class Follower:
    """One reader of a run, from its first chunk on."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._index = 0
        self._has_left = False
        run.join()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = None if self._has_left else await self._run.chunk(self._index)
        if chunk is None:
            raise StopAsyncIteration
        self._index += 1
        return chunk

    async def aclose(self) -> None:
        """Leave. Safe to call twice."""
        if not self._has_left:
            self._has_left = True
            self._run.leave()
