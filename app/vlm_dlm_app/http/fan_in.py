"""Several streams of one request as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from vlm_dlm_app.http.disconnect import ended

T = TypeVar("T")
MAX_UNREAD = 64


@dataclass(slots=True)
class Group:
    """Streams that end together. is_lost: one has failed, and that ends the others; no client has
    left."""

    is_lost: bool = False


async def merged(
    streams: Sequence[AsyncGenerator[T, None]], is_ready: Callable[[T], bool], group: Group
) -> AsyncGenerator[T, None]:
    """Items of all streams as they come.

    The first stream goes ahead: the others begin with the first of its items that `is_ready`
    accepts, or at its end. Raises the first error that any of them raises, and then ends them all,
    as closing does.
    """
    found: asyncio.Queue[T | Exception | None] = asyncio.Queue(MAX_UNREAD)
    may_begin = asyncio.Event()

    async def follow(stream: AsyncGenerator[T, None], is_first: bool) -> None:
        try:
            if not is_first:
                await may_begin.wait()
            async with aclosing(stream):
                async for item in stream:
                    await found.put(item)
                    if is_ready(item):
                        may_begin.set()
            may_begin.set()
        except Exception as error:
            group.is_lost = True
            await found.put(error)
        await found.put(None)

    tasks = [asyncio.create_task(follow(stream, not i)) for i, stream in enumerate(streams)]
    try:
        num_open = len(tasks)
        while num_open:
            item = await found.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        await ended(*tasks)
