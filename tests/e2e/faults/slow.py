"""Hundreds of clients who hardly send, or never read: the others must not feel them."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.e2e.client import Connection, ask, post
from tests.e2e.faults.check import Check, Watcher, percentile, spread
from tests.e2e.faults.disconnect import CHAT
from tests.e2e.faults.storm import settled_files
from tests.e2e.processes import num_open_files, rss_bytes
from tests.e2e.server import Server
from tests.e2e.workload import chat, long_answer, pictures

BYTE_S = 2.0
MAX_RATIO = 1.2
SLACK_S = 0.005  # times of a few milliseconds jitter by more than a fifth
MIB = 2**20
# What the server may grow by: once, and for each client who hardly sends or does not read.
FIXED_BYTES, CLIENT_BYTES = 16 * MIB, MIB // 4


async def check_slow_clients(
    server: Server, num_slow: int, num_deaf: int, num_asked: int, max_ratio: float = MAX_RATIO
) -> Check:
    """Times of one ordinary client, alone and then beside so many slow ones.

    num_slow: connections that send a byte now and then, half of them of the head and half of the
    body. num_deaf: streams that nobody reads. max_ratio: by which the 95th percentile may grow.
    """
    check = Check(f"{num_slow} slow clients and {num_deaf} that do not read")
    async with Watcher(server) as watcher:
        before = await _times(server, num_asked)
        files, memory = num_open_files(server.pid), rss_bytes(server.pid)
        async with _crowd(server, num_slow), _deaf(server, num_deaf):
            written_s = await watcher.idle(20.0)  # what nobody reads has been written
            meanwhile = await _times(server, num_asked)
            held = rss_bytes(server.pid) - memory
        idle_s = await watcher.idle(10.0)
    files_after = await settled_files(server.pid, files)
    base, loaded = (percentile(sorted(times), 0.95) for times in (before, meanwhile))
    check.figures = {
        "alone_ms": spread(before),
        "beside_ms": spread(meanwhile),
        "ratio_p95": round(loaded / base, 2),
        "ratio_p50": round(statistics.median(meanwhile) / statistics.median(before), 2),
        "rss_mib": round(held / MIB, 1),
        "files_after": [files, files_after],
    }
    check.expect(
        loaded <= max_ratio * base + SLACK_S, f"p95 rose from {base:.3f} to {loaded:.3f} s"
    )
    check.expect(written_s is not None, "streams that nobody reads keep the engine busy")
    limit = FIXED_BYTES + CLIENT_BYTES * (num_slow + num_deaf)
    check.expect(held <= limit, f"the clients took {held} bytes; the limit is {limit}")
    check.expect(files_after <= files, f"open files grew from {files} to {files_after}")
    check.expect(idle_s is not None, "the gauges did not come back")
    return check


async def _times(server: Server, num_asked: int) -> list[float]:
    """Seconds of whole answers, one after another."""
    times: list[float] = []
    request = post(CHAT, chat((pictures(3)[1],), max_tokens=12))
    async with await Connection.open(server.host, server.port) as connection:
        for _ in range(num_asked):
            outcome = await ask(connection, request)
            assert outcome.end_s is not None
            assert outcome.status == 200, f"an ordinary request got status {outcome.status}"
            times.append(outcome.end_s - outcome.began_s)
    return times


@asynccontextmanager
async def _crowd(server: Server, num_slow: int) -> AsyncIterator[None]:
    """Meanwhile so many connections send a byte every two seconds, and come back when cut off."""
    tasks = [asyncio.create_task(_trickle(server, number)) for number in range(num_slow)]
    await asyncio.sleep(0.5)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _trickle(server: Server, number: int) -> None:
    request = post(CHAT, chat())
    split = request.index(b"\r\n\r\n") + 4
    begin = split + 10 if number % 2 else 20
    while True:
        with suppress(OSError):
            async with await Connection.open(server.host, server.port) as connection:
                await connection.send(request[:begin])
                for index in range(begin, len(request)):
                    await asyncio.sleep(BYTE_S * (0.5 + number % 7 / 7))
                    await connection.send(request[index : index + 1])
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _deaf(server: Server, num_deaf: int) -> AsyncIterator[None]:
    """Meanwhile so many streams are asked for and never read."""
    connections: list[Connection] = []
    try:
        for _ in range(num_deaf):
            connection = await Connection.open(server.host, server.port)
            connection.stop_reading()
            await connection.send(post(CHAT, long_answer(max_tokens=200)))
            connections.append(connection)
        yield
    finally:
        for connection in connections:
            await connection.leave()
