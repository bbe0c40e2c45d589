"""Server-sent events: how they are written, and a response that ends when its reader leaves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, Generic, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vlm_dlm.errors import VlmDlmError
from vlm_dlm_app.http.disconnect import ended, until_left
from vlm_dlm_app.http.errors import ApiError, error_body, note_error, to_api_error

logger = logging.getLogger(__name__)
KEEP_ALIVE_S = 15.0
PATIENCE_S = 1.0  # for a first event; then the answer begins, so that nobody takes it for dead
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Closable(Protocol[T_co]):
    """An async generator, or what can be iterated and closed like one."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...
    def __anext__(self) -> Awaitable[T_co]: ...
    def aclose(self) -> Awaitable[None]: ...


def sse(data: dict[str, Any] | str, event: str | None = None) -> bytes:
    """One event. Objects become JSON in ASCII, so no character of a text can end a line."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    head = "" if event is None else f"event: {event}\n"
    return f"{head}data: {text}\n\n".encode()


def sse_error(error: BaseException) -> bytes:
    """The event of a failure in mid-stream: `{"error": {...}}`, as OpenAI's clients know it."""
    return sse(error_body(to_api_error(error)))


class Primed(Generic[T]):
    """An iterator whose first item is asked for already. `aclose` also ends it when nobody ever
    iterated."""

    def __init__(self, items: Closable[T]) -> None:
        self._items = items
        self._first: asyncio.Future[T] | None = asyncio.ensure_future(_next(items))

    async def wait(self, patience_s: float | None = None) -> bool:
        """Whether the first item is there, after `patience_s` at the latest; None waits for it.

        Raises its error. No item at all counts as there.
        """
        if self._first is None:
            return True
        await asyncio.wait({self._first}, timeout=patience_s)
        if not self._first.done():
            return False
        if not isinstance(self._first.exception(), StopAsyncIteration):
            self._first.result()
        return True

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._first is None:
            return await self._items.__anext__()
        first, self._first = self._first, None
        try:
            return await first
        except asyncio.CancelledError:
            await ended(first)
            raise

    async def aclose(self) -> None:
        if self._first is not None:
            await ended(self._first)
        await self._items.aclose()


async def primed(items: Closable[T], patience_s: float | None = None) -> Primed[T]:
    """`items` once the first of them is there, so that an error until then is still raised here.

    patience_s: goes on without it after so long. Closes `items` if it raises or is cancelled.
    """
    ready = Primed(items)
    try:
        await ready.wait(patience_s)
    except BaseException:
        await ready.aclose()
        raise
    return ready


async def rendered(
    items: Closable[T], render: Callable[[T], Iterable[bytes]]
) -> AsyncGenerator[bytes, None]:
    """Chunks of all items. Begins with a comment where the first one is long in coming.

    An error until then is raised before the first chunk, so that it can be an HTTP status.
    """
    ready = Primed(items)
    async with aclosing(ready):
        if not await ready.wait(PATIENCE_S):
            yield KEEP_ALIVE
        async for item in ready:
            for chunk in render(item):
                yield chunk


class EventStreamResponse(Response):
    """Sends what `chunks` yields, each at once.

    Closes `chunks` as soon as the client leaves, also while there is nothing to send. Sends a
    comment after every 15 s of silence, as proxies cut silent connections. An error that `chunks`
    raises becomes an error event and [DONE].

    chunks: best `primed`, for then it is closed even if the client leaves before the first one.
    """

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(
        self,
        chunks: Closable[bytes],
        headers: dict[str, str] | None = None,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self.chunks = chunks
        self.keep_alive_s = keep_alive_s
        self._last_sent_s = 0.0
        self._has_failed = False
        self.status_code = 200
        self.background = None
        self.init_headers(
            {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(scope, send))
        left = asyncio.ensure_future(until_left(receive))
        try:
            await self._watch(pump, left, send)
        finally:
            await ended(pump, left)
            with suppress(Exception):  # the pump has logged why, if there is anything to say
                await self.chunks.aclose()

    async def _watch(
        self, pump: asyncio.Future[None], left: asyncio.Future[None], send: Send
    ) -> None:
        """Return when all is sent or the client has left; meanwhile break long silences."""
        now = asyncio.get_running_loop().time
        self._last_sent_s = now()
        while not pump.done() and not left.done():
            silence_s = now() - self._last_sent_s
            if silence_s >= self.keep_alive_s:
                await self._send(send, KEEP_ALIVE)
                silence_s = 0.0
            await asyncio.wait(
                {pump, left},
                timeout=self.keep_alive_s - silence_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        if pump.done():
            pump.result()

    async def _pump(self, scope: Scope, send: Send) -> None:
        """Everything from the head of the answer to its end."""
        head = {"type": "http.response.start", "status": self.status_code}
        await send({**head, "headers": self.raw_headers})
        while (chunk := await self._next_chunk(scope)) is not None:
            await self._send(send, chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next_chunk(self, scope: Scope) -> bytes | None:
        """None after the last. Apart from sending, whose errors mean that the client is gone."""
        if self._has_failed:
            return None
        try:
            return await self.chunks.__anext__()
        except StopAsyncIteration:
            return None
        except Exception as error:
            self._has_failed = True
            note_error(scope, to_api_error(error).code)
            if not isinstance(error, ApiError | VlmDlmError):
                logger.error("an event stream failed", exc_info=error)
            return sse_error(error) + DONE

    async def _send(self, send: Send, chunk: bytes) -> None:
        self._last_sent_s = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _next(items: Closable[T]) -> T:
    return await items.__anext__()
