"""Many small requests of one client at one moment keep nobody else waiting."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.large_requests import TRIES
from tests.e2e.server import Server, eventually
from tests.e2e.watcher import Watcher

pytestmark = pytest.mark.alone

NUM = 150
NUM_READ, READ_S = 400, 3.0
STALL_S = 0.3  # one after the other takes seconds
BODY = b'{"data": []}'
HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
# Each is some milliseconds of parsing.
PIECES = {
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 4000,
    "lines": b"\r\n" * 4096,
    "headers": (HEAD + b"a: b\r\n" * 95 + b"\r\n") * 30,
}
REQUESTS = {
    "config": b"GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "call": b"POST /gradio_api/call/modes HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(engine="scripted", script_words=("one ", "two"), page=True) as running:
        eventually(lambda: "is starting" not in running.get("/"), 120)
        yield running


@contextmanager
def crowd(server: Server, number: int, address: str) -> Iterator[list[socket.socket]]:
    """Connections of one client."""
    opened = [
        socket.create_connection(("127.0.0.1", server.port), 60, (address, 0))
        for _ in range(number)
    ]
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def wait_beside(server: Server, piece: bytes) -> float:
    """The longest of another client, in seconds."""
    with (
        crowd(server, NUM_READ, "127.0.0.4") as opened,
        Watcher(server.port, server.pid) as watcher,
    ):
        watcher.longest_s()
        for one in opened:
            one.sendall(piece)
        time.sleep(READ_S)
        return watcher.longest_s()


@pytest.mark.parametrize("name", PIECES)
def test_what_many_connections_bring_at_once_is_read_by_and_by(server: Server, name: str) -> None:
    # Other programs also take the machine's time, so the best of some.
    waits: list[float] = []
    while len(waits) < TRIES and not any(wait < STALL_S for wait in waits):
        waits.append(wait_beside(server, PIECES[name]))
    assert min(waits) < STALL_S, waits


@pytest.mark.parametrize("name", REQUESTS)
def test_a_crowd_of_one_client_waits_for_itself(server: Server, name: str) -> None:
    with crowd(server, NUM, "127.0.0.3") as opened, Watcher(server.port, server.pid) as watcher:
        watcher.longest_s()
        for one in opened:
            one.sendall(REQUESTS[name])
        for one in opened:
            assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert watcher.longest_s() < STALL_S
