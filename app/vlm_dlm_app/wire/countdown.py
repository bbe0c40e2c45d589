"""One thing at a time that must happen soon, or something is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Countdown:
    """on_end: called when the time is over, unless it was stopped or started anew."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], object]) -> None:
        self._loop = loop
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """For what is awaited now, in place of what was awaited before."""
        self.stop()
        self._timer = self._loop.call_later(seconds, self._on_end)

    def stop(self) -> None:
        """It has happened, or nobody waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
