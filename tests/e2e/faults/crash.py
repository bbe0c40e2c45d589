"""The engine is killed under load: everybody gets an answer, and it is back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

from tests.e2e.client import Head, Outcome, ask_once, post
from tests.e2e.faults.check import Check, Watcher, spread
from tests.e2e.faults.disconnect import CHAT, active_engine
from tests.e2e.server import Server, eventually, total
from tests.e2e.workload import MODES, chat, long_answer, pictures

ANSWER_S = 2.0
RETRY_S = 0.5  # sooner than any client that heeds Retry-After
READY_S = 5.0
GIVE_UP_S = 60.0
# A server whose engine was lost more often in two minutes keeps it down on purpose.
KILLS_PER_SERVER = 4


@dataclass(slots=True)
class Load:
    """Clients who ask all the time. outcomes, refusals: of requests that are over; open: when the
    request that a client has under way began."""

    num_clients: int
    seed: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    open: dict[int, float] = field(default_factory=dict)
    refusals: list[Outcome] = field(default_factory=list)

    @asynccontextmanager
    async def on(self, server: Server) -> AsyncIterator[Load]:
        """Runs meanwhile; what is open at the end may finish."""
        is_over = asyncio.Event()
        tasks = [
            asyncio.create_task(self._ask(server, number, is_over))
            for number in range(self.num_clients)
        ]
        try:
            yield self
        finally:
            is_over.set()
            await asyncio.wait(tasks, timeout=GIVE_UP_S)
            for task in tasks:
                task.cancel()

    async def _ask(self, server: Server, number: int, is_over: asyncio.Event) -> None:
        random = Random(f"{self.seed}/{number}")
        while not is_over.is_set():
            request, began_s = post(CHAT, _body(random)), perf_counter()
            self.open[number] = began_s
            outcome = await ask_once(server.host, server.port, request, began_s)
            del self.open[number]
            (self.refusals if outcome.status in (429, 503) else self.outcomes).append(outcome)
            if outcome.status != 200:
                await asyncio.sleep(RETRY_S)


@dataclass(slots=True)
class KillFigures:
    """What kills did, of several servers too. answers: seconds from the kill to the end of every
    request that was under way; readies: until the server was ready again."""

    answers: list[float] = field(default_factory=list)
    readies: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    refusals: list[Outcome] = field(default_factory=list)
    num_hanging: int = 0

    def check(self, num_kills: int, ready_s: float = READY_S) -> Check:
        """The claim about all of them. ready_s: what the return of the engine may take."""
        ends = self.outcomes + self.refusals
        lost = [outcome for outcome in ends if not outcome.is_answered]
        check = Check(f"{num_kills} kills of the engine under load")
        check.figures = {
            "answer_ms": spread(self.answers),
            "ready_ms": spread(self.readies),
            "requests": len(ends),
            "ends": _counts(self.outcomes),
            "refusal_ms": spread([_seconds(outcome) for outcome in self.refusals]),
        }
        slowest, latest = max(self.answers, default=0.0), max(self.readies, default=0.0)
        is_told = all("retry-after" in outcome.headers for outcome in self.refusals)
        check.expect(len(self.readies) == num_kills, f"it came back {len(self.readies)} times")
        check.expect(bool(self.answers), "no request was under way when the engine was killed")
        check.expect(not lost, f"{len(lost)} requests ended without an answer")
        check.expect(not self.num_hanging, f"{self.num_hanging} requests hang")
        check.expect(slowest <= ANSWER_S, f"an answer took {slowest:.2f} s")
        check.expect(latest <= ready_s, f"it was ready after {latest:.2f} s")
        check.expect(is_told, "a refusal had no Retry-After")
        return check


async def check_kills(
    server: Server,
    num_kills: int,
    num_clients: int,
    seed: int = 0,
    figures: KillFigures | None = None,
    ready_s: float = READY_S,
) -> Check:
    """Kill the engine at random moments under load. figures: to be added to."""
    figures, random = figures or KillFigures(), Random(seed)
    async with Watcher(server) as watcher, Load(num_clients, seed).on(server) as load:
        for _ in range(num_kills):
            await asyncio.sleep(random.uniform(0.3, 4.0))
            with suppress(TimeoutError):  # then it lacks among `readies`
                await _kill(server, watcher, load, figures)
    figures.outcomes += load.outcomes
    figures.refusals += load.refusals
    figures.num_hanging += len(load.open)
    return figures.check(num_kills, ready_s)


async def _kill(server: Server, watcher: Watcher, load: Load, figures: KillFigures) -> None:
    """Kill, and add how long its clients and its return took. Raises TimeoutError."""
    restarts = await watcher.value("engine_restarts_total")
    open_then = dict(load.open)
    killed_s = perf_counter()
    os.kill(active_engine(server).pid, signal.SIGKILL)
    coming_back = asyncio.create_task(_come_back(watcher, restarts))
    while _still_open(load, open_then) and perf_counter() < killed_s + GIVE_UP_S:
        await asyncio.sleep(0.005)
    began = set(open_then.values())
    ends = [outcome for outcome in load.outcomes + load.refusals if outcome.began_s in began]
    figures.answers.extend(
        outcome.end_s - killed_s for outcome in ends if outcome.end_s is not None
    )
    figures.answers.extend(GIVE_UP_S for _ in _still_open(load, open_then))
    figures.readies.append(await coming_back - killed_s)


async def _come_back(watcher: Watcher, restarts: float) -> float:
    """The moment at which it is ready after one more restart. Raises TimeoutError."""
    await watcher.until(lambda found: total(found, "engine_restarts_total") > restarts, GIVE_UP_S)
    await watcher.until_ready(GIVE_UP_S)
    return perf_counter()


async def check_stays_down(server: Server) -> Check:
    """After too many losses in a short time it stays down, says why, and still answers."""
    check = Check("an engine that is lost again and again stays down")
    async with Watcher(server) as watcher:
        for _ in range(KILLS_PER_SERVER + 1):
            await watcher.until_ready(GIVE_UP_S)
            os.kill(active_engine(server).pid, signal.SIGKILL)
            while await watcher.is_ready():
                await asyncio.sleep(0.01)
        head, body = await _until_down(watcher)
        live, _ = await watcher.get("/health/live")
        outcome = await ask_once(server.host, server.port, post(CHAT, chat()))
    check.figures = {"ready": head.status, "live": live.status, "request": outcome.status}
    check.expect(head.status == 503 and b'"down"' in body, "it does not say that it is down")
    check.expect(b"times within" in body, "it does not say why")
    check.expect(live.status == 200, "it is not alive")
    check.expect(outcome.status == 503, f"a request got status {outcome.status}")
    check.expect(not server.engines(), "an engine process is left")
    return check


async def _until_down(watcher: Watcher) -> tuple[Head, bytes]:
    """What /health/ready says once the server has noticed."""
    deadline_s = perf_counter() + READY_S
    while True:
        head, body = await watcher.get("/health/ready")
        if b'"down"' in body or perf_counter() > deadline_s:
            return head, body
        await asyncio.sleep(0.02)


def check_end(server: Server) -> Check:
    """It ends well afterwards and leaves no process behind."""
    check = Check("orderly end, no orphans")
    code = server.stop()
    check.expect(code == 0, f"exit code {code}")
    _expect_no_orphans(check, server, 2.0)
    return check


def check_front_killed(server: Server) -> Check:
    """The process that listens is killed: nothing that it started stays."""
    check = Check("kill -9 of the server leaves no orphans")
    check.figures["processes"] = len(server.processes())
    server.signal(signal.SIGKILL)
    server.wait()
    _expect_no_orphans(check, server, 2.0)
    return check


def _expect_no_orphans(check: Check, server: Server, limit_s: float) -> None:
    try:
        check.figures["gone_ms"] = round(
            1000 * eventually(lambda: not server.orphans(), limit_s), 1
        )
    except TimeoutError:
        commands = [process.command for process in server.orphans()]
        check.faults.append(f"these are left: {'; '.join(commands)}")


def _still_open(load: Load, open_then: dict[int, float]) -> list[int]:
    return [number for number, began_s in open_then.items() if load.open.get(number) == began_s]


def _seconds(outcome: Outcome) -> float:
    return GIVE_UP_S if outcome.end_s is None else outcome.end_s - outcome.began_s


def _counts(outcomes: list[Outcome]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in outcomes:
        key = outcome.error or ("complete" if outcome.is_complete else "cut off")
        counts[key] = counts.get(key, 0) + 1
    return counts


def _body(random: Random) -> dict[str, Any]:
    mode, is_streamed = random.choice(MODES), random.random() < 0.7
    if random.random() < 0.3:
        return long_answer(mode, 400, is_streamed=is_streamed)
    return chat((random.choice(pictures(12)),), mode=mode, is_streamed=is_streamed)
