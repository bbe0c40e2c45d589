"""Pixels wait for room: in turns of clients, and nobody who leaves keeps any."""

from __future__ import annotations

import asyncio
import gc

import numpy as np

from vlm_dlm.serving.pictures.pixel_room import PixelRoom


async def hold(room: PixelRoom, order: list[str], name: str, num_pixels: int) -> None:
    await room.take(num_pixels, name[0])
    order.append(name)
    assert room.num_held <= 100 or name == "huge"
    await asyncio.sleep(0.005)
    if num_pixels:
        room.give_back(num_pixels)


def test_one_client_is_served_in_order() -> None:
    order: list[str] = []

    async def run() -> PixelRoom:
        room = PixelRoom(100)
        async with asyncio.TaskGroup() as group:
            for name, num_pixels in (("h1", 60), ("h2", 60), ("h3", 30), ("huge", 500), ("h4", 1)):
                group.create_task(hold(room, order, name, num_pixels))
            group.create_task(hold(room, order, "text", 0))
        return room

    assert asyncio.run(run()).num_held == 0
    assert [name for name in order if name != "text"] == ["h1", "h2", "h3", "huge", "h4"]
    assert order.index("text") == 1


def test_clients_take_turns() -> None:
    order: list[str] = []

    async def run() -> None:
        room = PixelRoom(100)
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(hold(room, order, f"a{number}", 90))
            await asyncio.sleep(0)  # all of them wait now
            group.create_task(hold(room, order, "b0", 90))

    asyncio.run(run())
    assert order.index("b0") <= 2


def test_who_leaves_keeps_no_room() -> None:
    async def run() -> None:
        room = PixelRoom(100)
        await room.take(100)
        tasks = [asyncio.create_task(room.take(90)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        room.give_back(100)
        tasks[0].cancel()  # in the moment of its turn
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, True, False]
        assert room.num_held == 90

    asyncio.run(run())


def test_room_comes_back_when_the_last_holder_of_an_array_goes_in_any_thread() -> None:
    async def run() -> None:
        room = PixelRoom(100)
        await room.take(60)
        held = [np.zeros((3, 6, 10), np.float32)]
        room.give_back_with(held[0], 60)
        waiting = asyncio.create_task(room.take(50))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await asyncio.to_thread(held.clear)
        gc.collect()
        await waiting
        assert room.num_held == 50

    asyncio.run(run())
