"""Frames over a stream socket inside an event loop. Both processes use it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from vlm_dlm.serving.wire import Frame, FrameReader, Parts

READ_BYTES = 2**18
JOIN_BYTES = 2**16  # what is waiting goes out in one call up to here


class FrameSocket:
    """Sends in order without blocking the caller; receives in whole frames.

    Sending is a task of its own, so that a caller who is cancelled never leaves half a frame.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader()
        self._parts: Parts = []
        self._has_parts = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self.num_pending_bytes = 0
        self._sender = asyncio.create_task(self._send_all())

    def send(self, parts: Parts) -> None:
        """Queue one frame. Lost without a word if the other side has gone; `receive` tells."""
        if self._sender.done():
            return
        self._parts += parts
        self.num_pending_bytes += sum(len(part) for part in parts)
        self._is_idle.clear()
        self._has_parts.set()

    async def receive(self) -> list[Frame] | None:
        """At least one frame, or None once the other side has gone. Raises EngineError for bytes
        that are no frame."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(self._sock, READ_BYTES)
            except OSError:  # reset: the other side died with frames of ours unread
                return None
            if not data:
                return None
            if frames := self._reader.feed(data):
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

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                await self._has_parts.wait()
                self._has_parts.clear()
                parts, self._parts = self._parts, []
                num_bytes = sum(len(part) for part in parts)
                if num_bytes <= JOIN_BYTES:
                    parts = [b"".join(parts)]
                for part in parts:
                    await loop.sock_sendall(self._sock, part)
                self.num_pending_bytes -= num_bytes
                if not self._parts:
                    self._is_idle.set()
