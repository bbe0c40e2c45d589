"""Nothing small waits in the kernel: an answer is several small writes, and a stream many."""

from __future__ import annotations

import socket

import pytest

from vlm_dlm_app.server import _bind
from vlm_dlm_app.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_send_small_writes_at_once(host: str) -> None:
    with (
        _bind(Settings(host=host, port=0)) as listener,
        socket.create_connection(listener.getsockname()[:2], timeout=5),
    ):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
