"""Clients: closed loops, who ask again once they are answered, and open ones, who come by a clock.

Tokens are counted for a window of time: a request that streams partly outside counts with the part
inside. So neither the start nor the last stragglers distort a rate.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from time import perf_counter, process_time
from typing import Any

from tests.e2e.client import Connection, Outcome, ask, ask_once, post
from tests.e2e.faults.check import Watcher, percentile
from tests.e2e.faults.disconnect import CHAT, active_engine
from tests.e2e.processes import total_cpu_s
from tests.e2e.server import Server
from tests.e2e.workload import MODES, chat, pictures

NUM_PICTURES = 64  # more than the engine keeps features of, so that every image is encoded
WARM_S = 2.0
FINISH_S = 120.0
HEALTH_S = 0.05
BUSY = (429, 503)

MakeBody = Callable[[Random], dict[str, Any]]


@dataclass(slots=True)
class Phase:
    """What some clients saw in a window of time. lags: seconds by which the generator was late.

    cpu: processor shares (1 is one processor) of the generator, the server and its engine.
    health: seconds that /health/live took meanwhile.
    """

    window: tuple[float, float] = (0.0, 0.0)
    outcomes: list[Outcome] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    num_hanging: int = 0

    def add(self, owner: int, outcome: Outcome) -> None:
        """One request is over."""
        self.owners.append(owner)
        self.outcomes.append(outcome)

    @property
    def accepted(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status not in BUSY]

    @property
    def refused(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status in BUSY]

    @property
    def num_incomplete(self) -> int:
        """Accepted requests that did not bring a whole answer."""
        return self.num_hanging + sum(
            not (outcome.is_complete and outcome.status == 200) for outcome in self.accepted
        )

    @property
    def tokens_per_s(self) -> float:
        return sum(map(self._tokens, self.accepted)) / self._length

    @property
    def requests_per_s(self) -> float:
        """Requests that ended well within the window."""
        begin, end = self.window
        ends = [outcome.end_s for outcome in self.accepted if outcome.is_complete]
        return sum(begin <= (moment or 0.0) < end for moment in ends) / self._length

    def tokens_of(self, num_owners: int) -> list[float]:
        """Tokens of each owner within the window."""
        sums = [0.0] * num_owners
        for owner, outcome in zip(self.owners, self.outcomes, strict=True):
            sums[owner] += self._tokens(outcome)
        return sums

    def ms(self, name: str, share: float) -> float:
        """A percentile over the accepted of `head_s`, `first_s` or `end_s`, from the start."""
        moments = [(getattr(outcome, name), outcome.began_s) for outcome in self.accepted]
        times = sorted(moment - began for moment, began in moments if moment is not None)
        return round(1000 * percentile(times, share), 1)

    @property
    def _length(self) -> float:
        return self.window[1] - self.window[0]

    def _tokens(self, outcome: Outcome) -> float:
        if not outcome.num_tokens or outcome.first_s is None or outcome.end_s is None:
            return 0.0
        length = max(outcome.end_s - outcome.first_s, 1e-6)
        inside = min(outcome.end_s, self.window[1]) - max(outcome.first_s, self.window[0])
        return outcome.num_tokens * min(1.0, max(0.0, inside / length))


async def closed_loops(
    server: Server, owners: Sequence[int], make: MakeBody, keys: Sequence[str], seconds: float
) -> Phase:
    """One client per entry of `owners`, which names its API key; each asks again at once."""
    phase, is_over = Phase(), asyncio.Event()
    random = Random(0)
    loops = [
        _loop(server, phase, owner, make, keys[owner], Random(random.random()), is_over)
        for owner in owners
    ]
    await _run(server, phase, loops, seconds, is_over)
    return phase


async def open_loop(
    server: Server, per_s: float, make: MakeBody, keys: Sequence[str], seconds: float
) -> Phase:
    """Requests at random moments, `per_s` on average, whatever the server does. Times count from
    the moment at which a request was due."""
    phase, is_over = Phase(), asyncio.Event()
    await _run(
        server, phase, [_arrivals(server, phase, per_s, make, keys, is_over)], seconds, is_over
    )
    return phase


async def _run(
    server: Server, phase: Phase, loops: Sequence[Any], seconds: float, is_over: asyncio.Event
) -> None:
    """Warm up, measure, then let everything finish."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    await asyncio.sleep(WARM_S)
    async with _health(server, phase), _cpu(server, phase):
        begin_s = perf_counter()
        await asyncio.sleep(seconds)
        phase.window = (begin_s, perf_counter())
    is_over.set()
    await _finish(phase, tasks, FINISH_S)


async def _finish(phase: Phase, tasks: Sequence[asyncio.Task[None]], limit_s: float) -> None:
    """Let clients end, count and cancel those who hang, and raise what went wrong in any."""
    if not tasks:
        return
    _, hanging = await asyncio.wait(tasks, timeout=limit_s)
    phase.num_hanging += len(hanging)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _loop(
    server: Server,
    phase: Phase,
    owner: int,
    make: MakeBody,
    key: str,
    random: Random,
    is_over: asyncio.Event,
) -> None:
    connection: Connection | None = None
    while not is_over.is_set():
        if connection is None:
            connection = await Connection.open(server.host, server.port)
        outcome = await ask(connection, post(CHAT, make(random), key))
        phase.add(owner, outcome)
        if not outcome.is_complete:
            await connection.leave()
            connection = None
        if outcome.status in BUSY:
            await asyncio.sleep(0.05)
    if connection is not None:
        await connection.leave()


async def _arrivals(
    server: Server,
    phase: Phase,
    per_s: float,
    make: MakeBody,
    keys: Sequence[str],
    is_over: asyncio.Event,
) -> None:
    random, turns, tasks = Random(0), itertools.cycle(range(len(keys))), list[asyncio.Task[None]]()
    due_s = perf_counter()

    async def one(owner: int, request: bytes, due_s: float) -> None:
        phase.add(owner, await ask_once(server.host, server.port, request, due_s))

    while not is_over.is_set():
        due_s += random.expovariate(per_s)
        owner = next(turns)
        request = post(CHAT, make(random), keys[owner])
        await asyncio.sleep(max(0.0, due_s - perf_counter()))
        phase.lags.append(perf_counter() - due_s)
        tasks.append(asyncio.create_task(one(owner, request, due_s)))
    await _finish(phase, tasks, FINISH_S - 10)


@asynccontextmanager
async def _health(server: Server, phase: Phase) -> AsyncIterator[None]:
    """Meanwhile asks now and then whether the server is alive."""

    async def poll() -> None:
        async with Watcher(server) as watcher:
            while True:
                began_s = perf_counter()
                await watcher.get("/health/live")
                phase.health.append(perf_counter() - began_s)
                await asyncio.sleep(HEALTH_S)

    task = asyncio.create_task(poll())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _cpu(server: Server, phase: Phase) -> AsyncIterator[None]:
    """Processor shares of the time meanwhile."""
    engine = active_engine(server).pid

    def spent() -> tuple[float, float, float]:
        return process_time(), total_cpu_s(server.pid), total_cpu_s(engine)

    before, began_s = spent(), perf_counter()
    yield
    seconds = perf_counter() - began_s
    shares = [(now - then) / seconds for now, then in zip(spent(), before, strict=True)]
    phase.cpu = dict(
        zip(("generator", "server", "engine"), (round(s, 2) for s in shares), strict=True)
    )


def captions(modes: Sequence[str] = MODES) -> MakeBody:
    """Requests for captions of example images and scenes, each in a mode drawn from `modes`."""
    images = pictures(NUM_PICTURES)
    turns = itertools.cycle(images)
    return lambda random: chat((next(turns),), mode=random.choice(modes))


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 for equal values, 1/n where one has all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0
