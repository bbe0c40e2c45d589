"""Frames over a stream socket inside an event loop. Both processes use it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from vlm_dlm.serving.process.wire import Frame, FrameReader, Parts

READ_BYTES = 2**18
# As far as the system allows: the pixels of an image then go out in few pieces.
BUFFER_BYTES = 2**21
MAX_PARTS = 256  # of one call; systems take 1024


class FrameSocket:
    """Sends in order without blocking the caller; receives in whole frames.

    What is sent within one turn of the event loop goes out together after it, so that the other
    side wakes once. What the system does not take then is for a task of its own: a caller who is
    cancelled never leaves half a frame.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._sock = sock
        self._reader = FrameReader()
        self._scratch = memoryview(bytearray(READ_BYTES))
        self._parts: Parts = []
        self._has_parts = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.num_pending_bytes = 0
        self._sender = asyncio.create_task(self._send_all())

    def send(self, parts: Parts) -> None:
        """Send or queue one frame. Lost without a word if the other side has gone; `receive`
        tells."""
        if self._sender.done():
            return
        if self._is_idle.is_set():
            self._is_idle.clear()
            asyncio.get_running_loop().call_soon(self._send_now)
        self._parts += parts
        self.num_pending_bytes += sum(len(part) for part in parts)

    async def receive(self) -> list[Frame] | None:
        """At least one frame, or None once the other side has gone. Raises EngineError for bytes
        that are no frame."""
        loop, scratch = asyncio.get_running_loop(), self._scratch
        while True:
            room = self._reader.room
            try:
                num_bytes = await loop.sock_recv_into(self._sock, room or scratch)
            except OSError:  # reset: the other side died with frames of ours unread
                return None
            if not num_bytes:
                return None
            frames = (
                self._reader.fill(num_bytes) if room else self._reader.feed(scratch[:num_bytes])
            )
            if frames:
                return frames

    async def flush(self) -> None:
        """Wait until everything queued has been handed to the system."""
        idle = asyncio.create_task(self._is_idle.wait())
        await asyncio.wait({idle, self._sender}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()

    async def close(self) -> None:
        """Stop sending and let go of the socket. Nobody may be receiving any more."""
        self._sender.cancel()
        await asyncio.wait({self._sender})
        self._sock.close()

    def _send_now(self) -> None:
        """As much as the system takes; the rest stays for the task."""
        try:
            num_sent = self._sock.sendmsg(self._parts[:MAX_PARTS])
        except BlockingIOError:
            num_sent = 0
        except OSError:  # the other side has gone
            num_sent, self._parts, self.num_pending_bytes = 0, [], 0
        self.num_pending_bytes -= num_sent
        while self._parts and num_sent >= len(self._parts[0]):
            num_sent -= len(self._parts.pop(0))
        if self._parts:
            self._parts[0] = memoryview(self._parts[0])[num_sent:]
            self._has_parts.set()
        else:
            self._is_idle.set()

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                await self._has_parts.wait()
                self._has_parts.clear()
                while self._parts:  # also what comes in meanwhile
                    part = self._parts.pop(0)
                    await loop.sock_sendall(self._sock, part)
                    self.num_pending_bytes -= len(part)
                    del part  # it may be the last that holds megabytes of pixels
                self._is_idle.set()
