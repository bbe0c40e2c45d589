"""Bounds the pixels that the server holds at once, of all requests together. One event loop."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vlm_dlm.serving.queue.fair_queue import FairQueue, Waiting


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    num_pixels: int
    granted: asyncio.Future[None]


class PixelRoom:
    """Clients take turns, each first come first served; one request alone always fits."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_held = 0
        self._line: FairQueue[_Place] = FairQueue(sys.maxsize, sys.maxsize)

    async def take(self, num_pixels: int, client: str = "") -> None:
        """Wait for room. Who takes it gives it back. Nothing to hold never waits."""
        if not num_pixels:
            return
        if not len(self._line) and self._has_room(num_pixels):
            self.num_held += num_pixels
            return
        place = _Place(num_pixels, asyncio.get_running_loop().create_future())
        waiting = Waiting(place, client, 0)
        self._line.push(waiting)
        try:
            await place.granted
        except BaseException:
            if not self._line.remove(waiting) and not place.granted.cancelled():
                self.num_held -= num_pixels  # it came in the same moment
            self._grant()
            raise

    def give_back(self, num_pixels: int) -> None:
        self.num_held -= num_pixels
        self._grant()

    def give_back_with(self, pixels: Any, num_pixels: int) -> None:
        """Once nobody holds the array any more, in whatever thread that comes about."""
        loop = asyncio.get_running_loop()
        weakref.finalize(pixels, _call_in, loop, self.give_back, num_pixels).atexit = False

    def _has_room(self, num_pixels: int) -> bool:
        return not self.num_held or self.num_held + num_pixels <= self.capacity

    def _grant(self) -> None:
        while (
            waiting := self._line.pop(
                lambda place: place.granted.done() or self._has_room(place.num_pixels)
            )
        ) is not None:
            if not waiting.item.granted.done():
                self.num_held += waiting.item.num_pixels
                waiting.item.granted.set_result(None)


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], num_pixels: int) -> None:
    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        loop.call_soon_threadsafe(call, num_pixels)
