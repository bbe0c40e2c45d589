"""One run for all requests that carry the same Idempotency-Key: who comes later joins or replays.

A run belongs to nobody: it goes on while anyone follows it, and ends when the last one leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from time import monotonic

from fastapi import Request

from app.errors import INTERNAL_MESSAGE, ApiError
from app.state import Services
from vlm_dlm.errors import EngineError

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255
MAX_RUNS = 256
MAX_STORED_BYTES = 64 * 2**20

Chunks = AsyncGenerator[bytes, None]


def replayed_stream(
    services: Services,
    request: Request,
    client: str,
    body: bytes,
    produce: Callable[[], Chunks],
) -> Chunks | Follower:
    """The chunks of a streamed answer, to be closed (`aclose`) by who follows them.

    Without an Idempotency-Key they are simply `produce()`. With one, the same client asking the
    same route with an equal `body` gets the chunks of the run that is under way or has ended well,
    from the first one on. `produce` must not watch the client's connection: it may outlive it. An
    error that it raises goes to everybody who follows, and nothing is kept.

    body: what the answer depends on; for multipart a form without the boundary, which differs from
    try to try. Raises ApiError: 400 for a key that is none, 422 for the key of another body.
    """
    key = key_of(request)
    if key is None:
        return produce()
    store = services.idempotency
    return store.follow((client, request.url.path, key), body, produce)


async def replayed_reply(
    services: Services,
    request: Request,
    client: str,
    body: bytes,
    produce: Callable[[], Awaitable[bytes]],
) -> bytes:
    """A whole answer, as `replayed_stream` does it for streams.

    To notice a client who leaves: `await while_connected(request, replayed_reply(...))`.
    """
    if key_of(request) is None:
        return await produce()

    async def one_chunk() -> Chunks:
        yield await produce()

    follower = replayed_stream(services, request, client, body, one_chunk)
    try:
        return b"".join([chunk async for chunk in follower])
    finally:
        await follower.aclose()


def key_of(request: Request) -> str | None:
    """The request's key, None without one. Raises ApiError (400) for one of a wrong form."""
    keys = request.headers.getlist(HEADER)
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        message = f"{HEADER} must be 1 to {MAX_KEY_CHARS} printable ASCII characters, given once"
        raise ApiError(400, "bad_idempotency_key", message, HEADER)
    return key


@dataclass(slots=True)
class _Entry:
    """ended_s: moment of its good end, None while it runs."""

    digest: bytes
    run: _Run
    ended_s: float | None = None


class IdempotencyStore:
    """Runs under way, and answers kept for `keep_s` seconds, the oldest dropped first.

    max_bytes bounds what is kept of answers that have ended.
    """

    def __init__(
        self,
        keep_s: float = 600.0,
        max_runs: int = MAX_RUNS,
        max_bytes: int = MAX_STORED_BYTES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.keep_s = keep_s
        self.max_runs = max_runs
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._clock = clock
        self._entries: OrderedDict[tuple[str, ...], _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def follow(self, name: tuple[str, ...], body: bytes, produce: Callable[[], Chunks]) -> Follower:
        """Join the run of this name, or start it. Raises ApiError (422) if its body was another."""
        self._drop_old()
        digest = hashlib.sha256(body).digest()
        entry = self._entries.get(name)
        if entry is None or entry.run.is_abandoned:
            entry = self._entries[name] = _Entry(digest, _Run(produce))
            entry.run.start(lambda is_good: self._settle(name, entry, is_good))
        elif entry.digest != digest:
            message = f"this {HEADER} belongs to a request with another body"
            raise ApiError(422, "idempotency_mismatch", message, HEADER)
        self._entries.move_to_end(name)
        return Follower(entry.run)

    def _settle(self, name: tuple[str, ...], entry: _Entry, is_good: bool) -> None:
        """A run has ended: keep it, or make way for another try."""
        if self._entries.get(name) is not entry:  # abandoned, and another took its place
            return
        if not is_good:
            del self._entries[name]
            return
        entry.ended_s = self._clock()
        self.num_bytes += entry.run.num_bytes
        self._drop_old()

    def _drop_old(self) -> None:
        now = self._clock()
        for name, entry in list(self._entries.items()):
            if entry.ended_s is None:
                continue
            is_over = len(self._entries) > self.max_runs or self.num_bytes > self.max_bytes
            if is_over or now - entry.ended_s >= self.keep_s:
                del self._entries[name]
                self.num_bytes -= entry.run.num_bytes


class _Run:
    """Pulls the chunks of one answer and keeps them for whoever follows."""

    def __init__(self, produce: Callable[[], Chunks]) -> None:
        self.chunks: list[bytes] = []
        self.num_bytes = 0
        self.num_followers = 0
        self.is_done = False
        self.is_abandoned = False
        self.error: Exception | None = None
        self._produce = produce
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, settle: Callable[[bool], None]) -> None:
        """Begin. settle: called once at the end, True if it ended well."""
        self._task = asyncio.create_task(self._pump(settle))

    async def stop(self) -> None:
        """End a run that nobody follows any more, and wait until it has ended."""
        self.is_abandoned = not self.is_done
        if self._task is not None and not self._task.done():
            self._task.cancel()
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
            settle(self.error is None)
            self._tell()

    def _tell(self) -> None:
        """Wake who waits for more."""
        self._news.set()
        self._news = asyncio.Event()


class Follower:
    """One reader of a run, from its first chunk on."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._index = 0
        self._has_left = False
        run.num_followers += 1

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = None if self._has_left else await self._run.chunk(self._index)
        if chunk is None:
            raise StopAsyncIteration
        self._index += 1
        return chunk

    async def aclose(self) -> None:
        """Leave. The run ends with its last follower. Safe to call twice."""
        if self._has_left:
            return
        self._has_left = True
        self._run.num_followers -= 1
        if not self._run.num_followers:
            await self._run.stop()
