"""Hundreds of clients connect and leave at random moments: nothing of them may stay behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from tests.e2e.client import Connection, ask_once, post
from tests.e2e.faults.check import Check, Watcher, work_s
from tests.e2e.faults.disconnect import CHAT, active_engine
from tests.e2e.processes import num_open_files, rss_bytes
from tests.e2e.server import Server
from tests.e2e.workload import MODES, chat, long_answer, pictures

IDLE_S = 1.0
MAX_AT_ONCE = 60
FILE_TRIES = 20
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Visit:
    """What one client does. share: of its request that it sends before it stops; stay_s: how long
    it stays then."""

    request: bytes
    share: float
    stay_s: float
    is_reset: bool


async def check_storm(server: Server, num_clients: int, seed: int = 0) -> Check:
    """Afterwards every gauge is at zero within 1 s, the engine rests, and no file stays open."""
    check = Check(f"storm of {num_clients} clients who leave")
    random = Random(seed)
    async with Watcher(server) as watcher:
        await _visit_all(server, [_visit(random) for _ in range(min(num_clients, MAX_AT_ONCE))])
        await watcher.idle(10.0)  # the warm-up: after it everything is open that ever is
        files, memory = num_open_files(server.pid), rss_bytes(server.pid)
        await _visit_all(server, [_visit(random) for _ in range(num_clients)])
        idle_s = await watcher.idle(10.0)
        rest_s = await work_s([active_engine(server).pid], IDLE_S + 0.5)
        files_after = await settled_files(server.pid, files)
        outcome = await ask_once(server.host, server.port, post(CHAT, chat(max_tokens=4)))
    check.figures = {
        "seed": seed,
        "idle_ms": None if idle_s is None else round(1000 * idle_s, 1),
        "files": [files, files_after],
        "rss_mib": [round(memory / MIB), round(rss_bytes(server.pid) / MIB)],
    }
    check.expect(idle_s is not None and idle_s <= IDLE_S, f"the gauges took {idle_s} s")
    check.expect(rest_s <= IDLE_S, "the engine works although nobody is there")
    check.expect(files_after <= files, f"open files grew from {files} to {files_after}")
    check.expect(outcome.status == 200, f"a request afterwards got status {outcome.status}")
    return check


async def settled_files(pid: int, wanted: int) -> int:
    """Open files, after a moment for what is being closed."""
    for _ in range(FILE_TRIES):
        if num_open_files(pid) <= wanted:
            break
        await asyncio.sleep(0.05)
    return num_open_files(pid)


async def _visit_all(server: Server, visits: list[Visit]) -> None:
    room = asyncio.Semaphore(MAX_AT_ONCE)

    async def one(visit: Visit) -> None:
        async with room:
            await _go(server, visit)

    await asyncio.gather(*map(one, visits))


async def _go(server: Server, visit: Visit) -> None:
    with suppress(OSError):  # refused or cut off: also an end
        connection = await Connection.open(server.host, server.port)
        try:
            await connection.send(visit.request[: round(visit.share * len(visit.request))])
            await asyncio.sleep(visit.stay_s)
        finally:
            await connection.leave(visit.is_reset)


def _visit(random: Random) -> Visit:
    images = tuple(random.sample(pictures(12), random.choice((0, 1, 1, 2))))
    mode, is_streamed = random.choice(MODES), random.random() < 0.7
    if random.random() < 0.5:
        body = long_answer(mode, is_streamed=is_streamed)
    else:
        body = chat(images, mode=mode, is_streamed=is_streamed)
    share = random.choice((0.0, random.random(), 1.0, 1.0, 1.0, 1.0))
    stay_s = random.choice((0.0, 0.02 * random.random(), random.random()))
    return Visit(post(CHAT, body), share, stay_s, random.random() < 0.5)
