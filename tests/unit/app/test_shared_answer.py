"""An answer that is made once for all who ask, is never older than the question, and has a rest."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from vlm_dlm_app.telemetry.shared_answer import SHARE, SharedAnswer


class Made:
    """Counts how often it is made, in which thread; seconds: of the processor that it takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.threads: list[str] = []
        self._seconds = seconds

    def __call__(self) -> bytes:
        self.threads.append(threading.current_thread().name)
        end_s = time.thread_time() + self._seconds
        while time.thread_time() < end_s:
            pass
        return b"%d" % len(self.threads)


def test_all_who_ask_at_once_share_one() -> None:
    made = Made()

    async def run() -> list[bytes]:
        shared = SharedAnswer(made)
        return await asyncio.gather(*(shared.get() for _ in range(300)))

    assert set(asyncio.run(run())) == {b"1"}
    assert threading.current_thread().name not in made.threads


def test_who_asks_meanwhile_gets_the_next() -> None:
    made = Made(0.05)

    async def run() -> list[bytes]:
        shared = SharedAnswer(made)
        first = asyncio.create_task(shared.get())
        while not made.threads:
            await asyncio.sleep(0.001)
        later = [asyncio.create_task(shared.get()) for _ in range(100)]
        return [await first, *(await asyncio.gather(*later)), await shared.get()]

    first, *later, last = asyncio.run(run())
    assert (first, set(later), last) == (b"1", {b"2"}, b"3")


def test_it_rests_between_two() -> None:
    made = Made(0.02)

    async def run() -> float:
        shared, began_s = SharedAnswer(made), time.monotonic()
        for _ in range(4):
            await shared.get()
        return time.monotonic() - began_s

    assert asyncio.run(run()) > 3 * 0.02 * SHARE


def test_who_leaves_ends_nothing_and_errors_reach_all() -> None:
    def fails() -> bytes:
        time.sleep(0.02)
        raise ValueError("no")

    async def run() -> None:
        shared = SharedAnswer(fails)
        leaving, staying = (asyncio.create_task(shared.get()) for _ in range(2))
        await asyncio.sleep(0.005)
        leaving.cancel()
        with pytest.raises(ValueError, match="no"):
            await staying
        with pytest.raises(ValueError, match="no"):
            await shared.get()

    asyncio.run(run())
