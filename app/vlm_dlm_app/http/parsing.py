"""Two threads for work that grows with a body: parsing, checking, rendering.

Such work mostly holds the interpreter's lock, so that more threads would not be faster, and each
would have its turn before the event loop has one. The second is there so that nobody's tenth of a
megabyte waits for another's megabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

SMALL_BYTES = 64 * 1024  # worked on at once: a few milliseconds
LARGE_BYTES = 2**20  # from here on it takes its time
PART_BYTES = 64  # of plain text, are as much work as one value of JSON
T = TypeVar("T")


def effort_of(body: bytes) -> int:
    """For `BodyWorker.run`: its bytes, and for a small one what the values in it add to them."""
    if len(body) > SMALL_BYTES:
        return len(body)
    return len(body) + PART_BYTES * (body.count(b",") + body.count(b"{"))


class BodyWorker:
    """Takes one piece of work per client at a time, so that each waits for others once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "bodies")
        self._large = ThreadPoolExecutor(1, "large bodies")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, client: str, effort: int, work: Callable[[], T]) -> T:
        """What `work` gives or raises; off the event loop unless it is little. effort: in
        bytes of a body."""
        if effort <= SMALL_BYTES:
            return work()
        turn = self._turns.get(client)
        if turn is None:
            turn = self._turns[client] = asyncio.Lock()
        async with turn:
            thread = self._thread if effort < LARGE_BYTES else self._large
            return await asyncio.get_running_loop().run_in_executor(thread, work)

    def close(self) -> None:
        """Takes nothing more; what is under way ends by itself, soon."""
        for thread in (self._thread, self._large):
            thread.shutdown(wait=False, cancel_futures=True)
