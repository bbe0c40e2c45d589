"""Nothing small waits in the kernel: an answer is several small writes, and a stream many. Small
writes are joined, pieces of large answers are not."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from vlm_dlm_app.server import _bind
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.wire.exchange import PIECE_BYTES
from vlm_dlm_app.wire.joined_writes import JoinedWrites


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_send_small_writes_at_once(host: str) -> None:
    with (
        _bind(Settings(host=host, port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2], timeout=5),
    ):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Written:
    """A transport that notes the sizes of what is handed to it."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))

    def is_closing(self) -> bool:
        return False


def test_each_piece_of_a_large_answer_goes_out_alone() -> None:
    """As each has a time of its own to be taken in."""
    inner: Any = Written()

    async def write() -> None:
        transport = JoinedWrites(inner, asyncio.get_running_loop())
        for size in (200, PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 50, 60):
            transport.write(b"x" * size)
        await asyncio.sleep(0)

    asyncio.run(write())
    assert inner.sizes == [200 + PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 110]
