"""Whether the server takes new work, and how much of it is still open."""

from __future__ import annotations

import asyncio


class Lifecycle:
    """Counts requests that do work. `close_door`: no new ones. `wait_idle`: until all are over."""

    def __init__(self) -> None:
        self.is_draining = False
        self.num_open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self) -> None:
        """A request begins."""
        self.num_open += 1
        self._idle.clear()

    def leave(self) -> None:
        """A request is over."""
        self.num_open -= 1
        if not self.num_open:
            self._idle.set()

    def close_door(self) -> None:
        """From now on new requests are refused. There is no way back."""
        self.is_draining = True

    async def wait_idle(self, limit_s: float) -> bool:
        """Return once nothing is open. False if that took longer."""
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
