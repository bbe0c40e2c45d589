"""Large requests, and what they may take: time to the answer, time of others, memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPConnection

import pytest

from tests.e2e.server import Server
from tests.e2e.watcher import Watcher, peak, processor_s, reset_peak

LIMIT_S, STALL_S, MEMORY = 1.0, 0.1, 64 * 2**20
TRIES = 3  # other programs also take the machine's time
JSON = "application/json"


def ask(
    server: Server, path: str, body: bytes, content_type: str = JSON, **headers: str
) -> tuple[int, bytes, float]:
    """Status, answer, and seconds from the end of the request to that of the answer."""
    connection = HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type, **headers})
        began_s = time.perf_counter()
        reply = connection.getresponse()
        return reply.status, reply.read(), time.perf_counter() - began_s
    finally:
        connection.close()


def check(server: Server, watcher: Watcher, what: str, send: Callable[[], float]) -> None:
    """send: returns the seconds until its answer; only those count in which the server worked."""
    for last in range(TRIES):
        watcher.longest_s()
        before, began_s = reset_peak(server.pid), processor_s(server.pid)
        answer_s = min(send(), processor_s(server.pid) - began_s)
        stall_s, memory = watcher.longest_s(), peak(server.pid) - before
        if answer_s < LIMIT_S and stall_s < STALL_S and memory < MEMORY:
            return
        if last == TRIES - 1:
            pytest.fail(
                f"{what}: answered after {answer_s:.2f} s, others waited {stall_s * 1000:.0f} ms, "
                f"{memory / 2**20:.0f} MiB more"
            )
        time.sleep(0.3)
