"""A pool of decoders for one test, and what is done to its children."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Awaitable, Callable
from typing import TypeVar

from vlm_dlm.processor.image_input import ImageLimits
from vlm_dlm.serving.pictures.decode_pool import DecodePool

T = TypeVar("T")
PATIENT_S = 120.0  # for a machine that is busy with other things


def with_pool(
    use: Callable[[DecodePool], Awaitable[T]],
    num_workers: int = 1,
    limits: ImageLimits | None = None,
    max_side: int | None = None,
    wall_s: float = PATIENT_S,
    memory_bytes: int = 2**30,
    cpu_s: int = 60,
) -> T:
    async def run() -> T:
        pool = DecodePool(num_workers, limits, max_side, wall_s, memory_bytes, cpu_s)
        try:
            return await use(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


async def wait_for_pid(pool: DecodePool, other_than: int | None = None) -> int:
    async with asyncio.timeout(PATIENT_S):
        while not pool.pids or pool.pids[0] == other_than:
            await asyncio.sleep(0.01)
    return pool.pids[0]


async def wait_for_work(pool: DecodePool, num_waiting: int = 0) -> None:
    """Until the only child has a picture, and so many more wait for it."""
    async with asyncio.timeout(PATIENT_S):
        while not _has_work(pool) or len(pool._slots._line) != num_waiting:
            await asyncio.sleep(0.01)


def _has_work(pool: DecodePool) -> bool:
    """Whether a request lies in the socket of a child that does not read."""
    (worker,) = pool._workers
    assert worker._link is not None
    unread = fcntl.ioctl(worker._link._sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(unread, sys.byteorder) > 0


def freeze(pool: DecodePool) -> int:
    """A child that never answers."""
    os.kill(pool.pids[0], signal.SIGSTOP)
    return pool.pids[0]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
