"""Many small requests of one client at one moment keep nobody else waiting."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.e2e.server import Server, eventually
from tests.e2e.watcher import Watcher

pytestmark = pytest.mark.alone

NUM = 150
STALL_S = 0.3  # one after the other takes seconds
BODY = b'{"data": []}'
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


@pytest.mark.parametrize("name", REQUESTS)
def test_a_crowd_of_one_client_waits_for_itself(server: Server, name: str) -> None:
    crowd = [
        socket.create_connection(("127.0.0.1", server.port), 60, ("127.0.0.3", 0))
        for _ in range(NUM)
    ]
    try:
        with Watcher(server.port, server.pid) as watcher:
            watcher.longest_s()
            for one in crowd:
                one.sendall(REQUESTS[name])
            for one in crowd:
                assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert watcher.longest_s() < STALL_S
    finally:
        for one in crowd:
            one.close()
