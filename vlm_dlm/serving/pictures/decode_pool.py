"""Untrusted image bytes to RGB pictures, decoded in child processes with hard limits.

Owns who decodes when. What a child may cost is `decode_worker.py`; what a header may promise,
checked before any decoding, is `image_header.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from PIL import Image

from vlm_dlm.errors import ImageError, ImageTooLargeError, UnavailableError
from vlm_dlm.processor.image_input import ImageLimits
from vlm_dlm.serving.pictures.decode_child import Request
from vlm_dlm.serving.pictures.decode_cost import ADDRESS_SHARE, decode_cost
from vlm_dlm.serving.pictures.decode_worker import (
    UNAVAILABLE,
    ChildLimits,
    DecoderKilledError,
    DecoderStarvedError,
    DecodeWorker,
)
from vlm_dlm.serving.pictures.image_header import header_size
from vlm_dlm.serving.pictures.pixel_room import PixelRoom
from vlm_dlm.shares import share_of

T = TypeVar("T")

logger = logging.getLogger(__name__)
CANCEL_GRACE_S = 0.1
NUM_TRIES = 2  # of a picture whose decoder was ended from outside


class DecodePool:
    """Decodes up to `num_workers` images at once; more wait in order. One event loop.

    max_side: longest side of what comes back from pictures above 16 megapixels, best twice the
    model's own; None hands every picture over whole. Smaller pictures are never resized here.
    room_bytes: memory of all pictures that are being decoded; others wait.
    """

    def __init__(
        self,
        num_workers: int = 2,
        limits: ImageLimits | None = None,
        max_side: int | None = None,
        wall_s: float = 15.0,
        memory_bytes: int = 2**30,
        cpu_s: int = 5,
        room_bytes: int = 2**31,
    ) -> None:
        self.limits = limits or ImageLimits()
        self.max_side = max_side
        self.num_deaths = 0
        self._child_limits = ChildLimits(wall_s, cpu_s, memory_bytes)
        self._workers = {DecodeWorker(self._child_limits) for _ in range(num_workers)}
        self._idle = list(self._workers)
        self.room = PixelRoom(room_bytes)  # of bytes, here
        self._slots = PixelRoom(num_workers)  # of children
        self._max_per_client = share_of(num_workers)
        self._shares: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="decode")
        self._is_closed = False

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that were started."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def start(self) -> None:
        """Start every child now rather than at its first image. Raises UnavailableError."""
        loop = asyncio.get_running_loop()
        starts = [loop.run_in_executor(self._threads, worker.start) for worker in self._workers]
        await asyncio.gather(*starts)

    async def header_size(self, data: bytes) -> tuple[int, int]:
        """(width, height) as the header promises. Raises ImageError as `decode` would, also where
        decoding would take more memory than there is."""
        await asyncio.sleep(0)  # it takes milliseconds at the very worst, but there may be many
        return self._checked_size(data)

    async def decode(self, data: bytes, apply_exif: bool = True) -> Image.Image:
        """The first frame as RGB, upright, without metadata. Raises as `decode_to` does."""
        return await self.decode_to(_same, data, await self.header_size(data), apply_exif)

    async def decode_to(
        self,
        make: Callable[[Image.Image], T],
        data: bytes,
        size: tuple[int, int],
        apply_exif: bool = True,
        client: str = "",
    ) -> T:
        """What `make` makes of the picture, in the same thread. size: as `header_size` found it.
        client: whose it is; clients take turns, and one has at most half of the children. Where
        none is named, no share is kept.

        Raises ImageError for anything unreadable, UnavailableError when no child can be started,
        or is left alive by the system, or gets enough of the processor, or the pool is closed.
        Cancelling ends the child that is at work, unless it is done within a moment: a fresh child
        costs more than most pictures.
        """
        cost = decode_cost(data, size, self.max_side)
        max_bytes = int(cost * ADDRESS_SHARE)
        request = Request(len(data), *size, self.max_side or 0, apply_exif, max_bytes)
        await self.room.take(cost, client)
        try:
            for _ in range(NUM_TRIES - 1):
                try:
                    return await self._decode_once(make, data, request, client)
                except DecoderKilledError:
                    logger.warning("a decoder of pictures was ended from outside; trying again")
            return await self._decode_once(make, data, request, client)
        finally:
            self.room.give_back(cost)

    async def _decode_once(
        self, make: Callable[[Image.Image], T], data: bytes, request: Request, client: str
    ) -> T:
        async with self._share_of(client):
            return await self._decode_in_slot(make, data, request, client)

    def _share_of(self, client: str) -> AbstractAsyncContextManager[None]:
        if not client:
            return nullcontext()
        share = self._shares.get(client)
        if share is None:
            share = self._shares[client] = asyncio.Semaphore(self._max_per_client)
        return share

    async def _decode_in_slot(
        self, make: Callable[[Image.Image], T], data: bytes, request: Request, client: str
    ) -> T:
        await self._slots.take(1, client)
        if self._is_closed:
            self._slots.give_back(1)
            raise UnavailableError(UNAVAILABLE)
        worker = self._idle.pop()
        if worker.has_ended:  # while nobody used it, so this image is not to blame
            worker = self._replace(worker)
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._threads, lambda: make(worker.decode(data, request)))
        job.add_done_callback(partial(self._release, worker))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            loop.call_later(CANCEL_GRACE_S, _kill_unless_done, worker, job)
            raise

    async def close(self) -> None:
        """End all children. Images being decoded fail with UnavailableError."""
        self._is_closed = True
        for worker in self._workers:
            worker.kill()
        await asyncio.to_thread(self._threads.shutdown, wait=True)
        await asyncio.to_thread(_reap, self._workers)

    def _checked_size(self, data: bytes) -> tuple[int, int]:
        size = header_size(data, self.limits)
        cost = decode_cost(data, size, self.max_side)
        if cost > self.room.capacity:
            raise ImageTooLargeError(
                f"the image would take {cost >> 20} MiB to decode; this server has "
                f"{self.room.capacity >> 20} MiB for that"
            )
        return size

    def _release(self, worker: DecodeWorker, job: asyncio.Future[Any]) -> None:
        """The worker is free again; a dead one is replaced by a fresh child at once."""
        # asking for the error also marks it as seen when the caller has left
        error = None if job.cancelled() else job.exception()
        if isinstance(error, ImageError) and worker.is_dead:
            self.num_deaths += 1
        if isinstance(error, DecoderStarvedError):
            logger.warning("a decoder of pictures got too little processor time")
        if worker.is_dead and not self._is_closed:
            worker = self._replace(worker)
        self._idle.append(worker)
        self._slots.give_back(1)

    def _replace(self, worker: DecodeWorker) -> DecodeWorker:
        """A fresh worker, its child already starting."""
        fresh = DecodeWorker(self._child_limits)
        self._workers.remove(worker)
        self._workers.add(fresh)
        self._threads.submit(worker.reap)
        self._threads.submit(fresh.start)
        return fresh


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _kill_unless_done(worker: DecodeWorker, job: asyncio.Future[Any]) -> None:
    if not job.done():
        worker.kill()


def _reap(workers: set[DecodeWorker]) -> None:
    for worker in workers:
        worker.reap()
