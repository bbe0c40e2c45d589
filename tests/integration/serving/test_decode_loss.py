"""Children that hang, die or are ended: whose fault it was, and what becomes of the picture."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from contextlib import suppress

import pytest
from PIL import Image

from tests.corpus.images import encode, noise, png
from tests.integration.serving.decode_harness import (
    PATIENT_S,
    freeze,
    is_gone,
    wait_for_pid,
    wait_for_work,
    with_pool,
)
from vlm_dlm.errors import ImageError, UnavailableError
from vlm_dlm.processor.image_input import read_image
from vlm_dlm.serving.pictures.decode_pool import DecodePool


def test_a_slow_child_is_ended_and_replaced() -> None:
    data = encode(noise(20, 20))

    async def use(pool: DecodePool) -> int:
        await pool.start()
        pid = freeze(pool)
        with pytest.raises(UnavailableError, match=r"too busy to decode the image within 0\.5 s"):
            await pool.decode(data)
        assert await wait_for_pid(pool, pid) != pid
        async with asyncio.timeout(PATIENT_S):
            while not is_gone(pid):
                await asyncio.sleep(0.01)
        return pool.num_deaths

    assert with_pool(use, wall_s=0.5) == 0, "a child that got no processor is no bad image"


def test_an_image_that_takes_too_much_of_the_processor_is_to_blame() -> None:
    """However long that takes on a busy machine. Chunks of a kind that nobody keeps in memory."""
    plain, unknown = png(20, 20), bytes(4) + b"aBCd" + zlib.crc32(b"aBCd").to_bytes(4, "big")
    costly = plain[:33] + unknown * 10**6 + plain[33:]

    async def use(pool: DecodePool) -> int:
        with pytest.raises(ImageError, match="could not be decoded within 1 processor seconds"):
            await pool.decode(costly)
        return pool.num_deaths

    assert with_pool(use, cpu_s=1) == 1


def test_a_child_that_dies_of_an_image_fails_that_image_only() -> None:
    data = encode(noise(20, 20))

    async def use(pool: DecodePool) -> int:
        await pool.start()
        pid = freeze(pool)
        lost, waiting = (asyncio.create_task(pool.decode(data)) for _ in range(2))
        await wait_for_work(pool, num_waiting=1)
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(ImageError, match="could not be decoded within 60 processor seconds"):
            await lost
        assert (await waiting).size == (20, 20)
        return pool.num_deaths

    assert with_pool(use) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_image_whose_child_was_ended_from_outside_is_decoded_again(number: int) -> None:
    data = encode(noise(20, 20))

    async def use(pool: DecodePool) -> int:
        await pool.start()
        pid = freeze(pool)
        task = asyncio.create_task(pool.decode(data))
        await wait_for_work(pool)
        os.kill(pid, number)
        if number == signal.SIGTERM:
            os.kill(pid, signal.SIGCONT)
        assert (await task).tobytes() == read_image(data).tobytes()
        return pool.num_deaths

    assert with_pool(use) == 0


def test_where_every_child_is_ended_it_is_the_servers_fault() -> None:
    data = encode(Image.new("RGB", (4000, 3000)), compress_level=1)

    async def use(pool: DecodePool) -> tuple[int, int]:
        await pool.start()
        task = asyncio.create_task(pool.decode(data))
        while not task.done():
            for pid in pool.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
        with pytest.raises(UnavailableError, match="cannot be decoded at the moment"):
            await task
        return (await pool.decode(encode(noise(20, 20)))).size

    assert with_pool(use) == (20, 20)


def test_a_child_that_died_idle_is_replaced_unseen() -> None:
    data = encode(noise(20, 20))

    async def use(pool: DecodePool) -> int:
        await pool.decode(data)
        (worker,) = pool._workers
        os.kill(pool.pids[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENT_S):
            while not worker.has_ended:
                await asyncio.sleep(0.01)
        assert (await pool.decode(data)).size == (20, 20)
        return pool.num_deaths

    assert with_pool(use) == 0
