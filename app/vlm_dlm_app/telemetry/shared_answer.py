"""One answer for everybody who asks for it meanwhile, made off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic, thread_time

# An answer that everybody asks for all the time takes one part in so many of a processor.
SHARE = 4


class SharedAnswer:
    """make: work that anybody may ask for, as often as they like. Whoever asks while it is under
    way gets what is made next, so that no answer is older than its question."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._current: asyncio.Task[bytes] | None = None
        self._next: asyncio.Task[bytes] | None = None
        self._next_s = 0.0  # not before that moment

    async def get(self) -> bytes:
        """Raises what `make` raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._current))
        return await asyncio.shield(self._next)

    async def _run(self, before: asyncio.Task[bytes] | None) -> bytes:
        if before is not None:
            await asyncio.wait({before})
        await asyncio.sleep(max(self._next_s - monotonic(), 0.0))
        self._current, self._next = self._next, None
        try:
            return await asyncio.to_thread(self._timed)
        finally:
            if self._next is None:
                self._current = None

    def _timed(self) -> bytes:
        began_s = thread_time()
        try:
            return self._make()
        finally:
            self._next_s = monotonic() + (thread_time() - began_s) * (SHARE - 1)
