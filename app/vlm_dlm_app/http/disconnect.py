"""Work that ends when the client who asked for it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


async def until_left(receive: Receive) -> None:
    """Return when the client has left. Only once its body has been read in full."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Cancels it, and raises ClientDisconnect, when the client leaves first.

    The body must have been read in full. `work` has always ended when this returns or raises.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(until_left(request.receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await ended(task, left)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended; what it raises is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
