"""Frames reach the other side whole and in order, whatever the sockets take at a time."""

from __future__ import annotations

import asyncio
import socket

from vlm_dlm.serving.process.frame_socket import FrameSocket
from vlm_dlm.serving.process.wire import encode

LARGE = 2**23  # more than the sockets' buffers hold


async def received(link: FrameSocket, num_frames: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while len(found) < num_frames:
        frames = await link.receive()
        assert frames is not None
        found += [(frame.stream, bytes(frame.body)) for frame in frames]
    return found


def frame(number: int, body: bytes = b"") -> list[bytes | memoryview]:
    return encode({"kind": "test", "stream": number}, [memoryview(body)])


def test_frames_arrive_in_order_around_one_that_fills_every_buffer() -> None:
    async def run() -> None:
        one, other = (FrameSocket(sock) for sock in socket.socketpair())
        bodies = [b"a", b"b" * LARGE, b"", b"c" * 1000, b"d" * LARGE, b"e"]
        for number, body in enumerate(bodies[:3]):
            one.send(frame(number, body))
        await asyncio.sleep(0.05)  # the sender is at work on the large one
        for number, body in enumerate(bodies[3:], start=3):
            one.send(frame(number, body))
        async with asyncio.timeout(10):
            found = await received(other, len(bodies))
            await one.flush()
        assert found == list(enumerate(bodies))
        assert one.num_pending_bytes == 0
        await one.close()
        await other.close()

    asyncio.run(run())


def test_frames_of_one_turn_arrive_together() -> None:
    async def run() -> None:
        one, other = (FrameSocket(sock) for sock in socket.socketpair())
        for number in range(5):
            one.send(frame(number))
        frames = await other.receive()
        assert frames is not None
        assert [found.stream for found in frames] == list(range(5))
        await one.close()
        await other.close()

    asyncio.run(run())


def test_what_is_sent_to_nobody_is_lost_without_a_word() -> None:
    async def run() -> None:
        one, other = (FrameSocket(sock) for sock in socket.socketpair())
        await other.close()
        for number in range(3):
            one.send(frame(number, b"x" * LARGE))
            await asyncio.sleep(0)
        assert await one.receive() is None
        async with asyncio.timeout(5):
            await one.flush()
        await one.close()

    asyncio.run(run())
