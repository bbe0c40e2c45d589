"""One answer being made, and any number of readers of it, each from its first chunk on.

It belongs to nobody: it goes on while anyone follows it, and a while longer, so that a
client that lost its connection finds it still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from vlm_dlm.errors import EngineError
from vlm_dlm_app.http.errors import INTERNAL_MESSAGE

Chunks = AsyncGenerator[bytes, None]


class Run:
    """Pulls the chunks of one answer and keeps them for whoever follows.

    num_bytes: of the chunks that are held. is_kept: whether those are all, so that one more may
    follow.
    """

    def __init__(
        self, produce: Callable[[], Chunks], is_good: Callable[[], bool], linger_s: float
    ) -> None:
        self.num_bytes = 0
        self.is_kept = True
        self.is_done = False
        self.is_abandoned = False
        self.error: Exception | None = None
        self._chunks: list[bytes] = []
        self._num_gone = 0  # chunks before those
        self._followers: set[Follower] = set()
        # What makes the answer holds the request, with its pictures; kept is the answer alone.
        self._produce: Callable[[], Chunks] | None = produce
        self._is_good: Callable[[], bool] | None = is_good
        self._linger_s = linger_s
        self._lingering: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._is_read = asyncio.Event()  # for the next chunk, where none are kept
        self._task: asyncio.Task[None] | None = None
        self._count: Callable[[int], None] = lambda _: None

    def start(self, count: Callable[[int], None], settle: Callable[[bool], None]) -> None:
        """Begin. count: told by how many bytes it holds more, or less. settle: called once at the
        end, True if it ended well."""
        self._count = count
        self._task = asyncio.create_task(self._pump())
        # not from within: what is cancelled before its first step never runs a line
        self._task.add_done_callback(lambda task: self._end(task, settle))

    def join(self, follower: Follower) -> None:
        """One more follows it."""
        self._followers.add(follower)
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def leave(self, follower: Follower) -> None:
        """One less does; after the last it goes on for a while, should anybody come back."""
        self._followers.discard(follower)
        self.let_go_of_read()
        if not self._followers and not self.is_done:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self._linger_s, self.stop)

    def forget(self) -> None:
        """Hold no more than what those who follow have yet to read, and wait for them with every
        further chunk. It ends where nobody follows: nobody could read it from its start."""
        self.is_kept = False
        self.let_go_of_read()

    def let_go_of_read(self) -> None:
        """Of what everybody has read, where it is not kept."""
        if self.is_kept:
            return
        if not self._followers and not self.is_done:
            self.stop()
        end = self._num_gone + len(self._chunks)
        num_read = min((each.index for each in self._followers), default=end) - self._num_gone
        num_bytes = sum(len(chunk) for chunk in self._chunks[:num_read])
        del self._chunks[:num_read]
        self._num_gone += num_read
        self.num_bytes -= num_bytes
        self._count(-num_bytes)
        if not self._chunks:
            self._is_read.set()

    def stop(self) -> None:
        """End it, whoever follows."""
        self.is_abandoned = self._task is not None and self._task.cancel()

    async def ended(self) -> None:
        """Return once it has."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def chunk(self, index: int) -> bytes | None:
        """The chunk at `index` once it is there, None after the last. Raises the run's error."""
        while index - self._num_gone >= len(self._chunks):
            if self.error is not None:
                raise self.error
            if self.is_done:
                return None
            await self._news.wait()
        return self._chunks[index - self._num_gone]

    async def _pump(self) -> None:
        if self._produce is None:
            raise RuntimeError("a run starts once")
        produce, self._produce = self._produce, None
        async with aclosing(produce()) as chunks:
            del produce
            async for chunk in chunks:
                await self._add(chunk)

    def _end(self, task: asyncio.Task[None], settle: Callable[[bool], None]) -> None:
        self.is_done = True
        if self._lingering is not None:
            self._lingering.cancel()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self.error = error if isinstance(error, Exception) else EngineError(INTERNAL_MESSAGE)
        is_good, self._is_good, self._produce = self._is_good, None, None
        settle(error is None and is_good is not None and is_good())
        self._tell()

    async def _add(self, chunk: bytes) -> None:
        self._is_read.clear()
        self._chunks.append(chunk)
        self.num_bytes += len(chunk)
        self._count(len(chunk))
        self._tell()
        if not self.is_kept:
            await self._is_read.wait()

    def _tell(self) -> None:
        """Wake who waits for more."""
        self._news.set()
        self._news = asyncio.Event()


class Follower:
    """One reader of a run, from its first chunk on. index: of the chunk to be read next."""

    def __init__(self, run: Run) -> None:
        self.index = 0
        self._run = run
        self._has_left = False
        run.join(self)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = None if self._has_left else await self._run.chunk(self.index)
        if chunk is None:
            raise StopAsyncIteration
        self.index += 1
        self._run.let_go_of_read()
        return chunk

    async def aclose(self) -> None:
        """Leave. Safe to call twice."""
        if not self._has_left:
            self._has_left = True
            self._run.leave(self)
