"""A client leaves in each state that a request can be in: the work for it must end.

The server's own counter of aborts tells which state it was; the engine's processor time, read from
outside, tells when the work really ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from tests.e2e.client import DONE, Connection, ask_once, post
from tests.e2e.faults.check import Check, Watcher, is_idle, spread, work_s
from tests.e2e.processes import Process
from tests.e2e.server import Server, labelled, total
from tests.e2e.workload import chat, long_answer, pictures, slow_image

CHAT = "/v1/chat/completions"
LIMIT_S = 0.25
MARGIN_S = 0.5
WAIT_S = 20.0
LONG_TEXT = "one two three four five six seven eight nine ten " * 60

Reach = Callable[[Watcher, Connection], Awaitable[None]]
Body = Callable[[], dict[str, Any]]
Worker = Callable[[Server], list[int]]  # its process ids


@dataclass(frozen=True, slots=True)
class State:
    """Where to leave. stage: what the server calls it; reach: returns once the request is there;
    is_crowded: all places in the engine are taken by others. worker: whose work must end,
    None where nothing is worked on yet."""

    name: str
    stage: str
    body: Body
    reach: Reach
    is_crowded: bool = False
    worker: Worker | None = None


def states() -> tuple[State, ...]:
    """All of them, for a server of the endless checkpoint."""
    whole = {"is_streamed": False}
    diffusing = {"mode": "diffusion", "threshold": 1.0}
    waiting = (_until_waiting, True)
    writing = (_until_text, False, _engine)
    return (
        State("waiting", "waiting", long_answer, *waiting),
        State("waiting, not streamed", "waiting", partial(long_answer, **whole), *waiting),
        State("decoding", "preparing", _slow_to_decode, _until_decoding, False, _decoders),
        State("prefilling", "prefill", _slow_to_prefill, _until_running, False, _engine),
        State("streaming", "decode", long_answer, *writing),
        State("mid-block", "decode", partial(long_answer, **diffusing), *writing),
        State("between drafts", "decode", partial(long_answer, "linear_spec"), *writing),
        State(
            "not streamed", "decode", partial(long_answer, **whole), _until_written, False, _engine
        ),
    )


async def check_disconnect(
    server: Server, state: State, num_places: int, repeats: int = 1, limit_s: float = LIMIT_S
) -> Check:
    """Leave `repeats` times; gauges must be back within the limit, and work must end within it or
    one step. num_places: the server's `max_running`.

    A try in which the request had gone on to another state must end as well; most must meet theirs.
    """
    check = Check(f"disconnect: {state.name}")
    gauge, work, hits = [], [], 0
    async with Watcher(server) as watcher:
        work_limit_s = max(limit_s, await _prefill_step_s(server, watcher, state))
        for number in range(repeats):
            before = await _aborts(watcher, state.stage)
            visit = _Visit(
                server, watcher, state, work_limit_s + MARGIN_S, is_reset=bool(number % 2)
            )
            gauge_s, worker_s = await _leave(visit, num_places)
            hits += await _aborts(watcher, state.stage) > before
            gauge.append(gauge_s)
            work.append(worker_s)
    check.figures = {
        "hits": hits,
        "gauges_ms": spread(gauge),
        "limit_ms": round(1000 * work_limit_s),
    }
    if state.worker is not None:
        check.figures["work_ms"] = spread(work)
        check.expect(max(work) <= work_limit_s, f"it was worked on for {max(work):.3f} s")
    check.expect(max(gauge) <= limit_s, f"the gauges took {max(gauge):.3f} s")
    check.expect(2 * hits > repeats, f"only {hits} of {repeats} tries met the state {state.stage}")
    return check


@dataclass(frozen=True, slots=True)
class _Visit:
    """One client who leaves. watch_s: how long its worker is watched afterwards."""

    server: Server
    watcher: Watcher
    state: State
    watch_s: float
    is_reset: bool


async def _leave(visit: _Visit, num_places: int) -> tuple[float, float]:
    """(seconds until the gauges were back, seconds until its worker rested)."""
    if not visit.state.is_crowded:
        return await _leave_alone(visit)
    server, watcher = visit.server, visit.watcher
    async with AsyncExitStack() as others:
        for _ in range(num_places):
            connection = await Connection.open(server.host, server.port)
            other = await others.enter_async_context(connection)
            await other.send(post(CHAT, long_answer()))
        await watcher.until(
            lambda found: total(found, "num_requests_running") == num_places, WAIT_S
        )
        result = await _leave_alone(visit)
    await watcher.until(is_idle, WAIT_S)
    return result


async def _leave_alone(visit: _Visit) -> tuple[float, float]:
    server, state = visit.server, visit.state
    connection = await Connection.open(server.host, server.port)
    await connection.send(post(CHAT, state.body()))
    await state.reach(visit.watcher, connection)
    pids = [] if state.worker is None else state.worker(server)
    left_s = perf_counter()
    await connection.leave(visit.is_reset)
    worker_s, gauge_s = await asyncio.gather(
        work_s(pids, visit.watch_s), _gauges_back(visit.watcher, state, left_s)
    )
    return gauge_s, worker_s


async def _gauges_back(watcher: Watcher, state: State, left_s: float) -> float:
    """Seconds since `left_s` until nobody is counted but who crowds the engine."""

    def is_back(found: dict[str, float]) -> bool:
        if state.is_crowded:
            return not total(found, "num_requests_waiting")
        return is_idle(found)

    await watcher.until(is_back, WAIT_S, pause_s=0.01)
    return perf_counter() - left_s


def active_engine(server: Server) -> Process:
    """The engine that serves; a spare that waits for its turn is younger."""
    return min(server.engines(), key=lambda process: (process.start, process.pid))


def _slow_to_decode() -> dict[str, Any]:
    return chat((slow_image(),))


def _slow_to_prefill() -> dict[str, Any]:
    return chat(pictures(8), LONG_TEXT)


def _engine(server: Server) -> list[int]:
    return [active_engine(server).pid]


def _decoders(server: Server) -> list[int]:
    return [process.pid for process in server.processes() if "decode_child" in process.command]


async def _prefill_step_s(server: Server, watcher: Watcher, state: State) -> float:
    """Seconds of one step of the state's own prompt, undisturbed; 0 where the state has none.

    Half as much again as their mean, since the last step of a prompt is shorter than the others.
    """
    if state.stage != "prefill":
        return 0.0

    async def spent() -> tuple[float, float]:
        metrics = await watcher.metrics()
        forwards = labelled(metrics, "model_forwards_total", 'kind="prefill"')
        return total(metrics, "request_prefill_time_seconds_sum"), forwards

    before_s, before = await spent()
    await ask_once(server.host, server.port, post(CHAT, {**state.body(), "max_tokens": 1}))
    await watcher.until(is_idle, WAIT_S)
    after_s, after = await spent()
    return 1.5 * (after_s - before_s) / max(after - before, 1)


async def _aborts(watcher: Watcher, stage: str) -> float:
    return labelled(await watcher.metrics(), "request_aborts_total", f'stage="{stage}"')


async def _until_waiting(watcher: Watcher, connection: Connection) -> None:
    await watcher.until(lambda found: total(found, "num_requests_waiting") == 1, WAIT_S)


async def _until_decoding(watcher: Watcher, connection: Connection) -> None:
    await watcher.until(lambda found: total(found, "num_requests_preparing") == 1, WAIT_S)
    await asyncio.sleep(0.05)  # into the decoding


async def _until_running(watcher: Watcher, connection: Connection) -> None:
    await watcher.until(lambda found: total(found, "num_requests_running") == 1, WAIT_S, 0.0)


async def _until_written(watcher: Watcher, connection: Connection) -> None:
    def is_writing(found: dict[str, float]) -> bool:
        return total(found, "num_requests_running") == 1

    await watcher.until(is_writing, WAIT_S)
    before = await watcher.value("generation_tokens_total")
    await watcher.until(lambda found: total(found, "generation_tokens_total") > before + 8, WAIT_S)


async def _until_text(watcher: Watcher, connection: Connection) -> None:
    head = await connection.head()
    num_pieces = 0
    async with aclosing(connection.events(head)) as events:
        async for data in events:
            assert data != DONE, "the answer was over before anybody left"
            num_pieces += '"content":' in data
            if num_pieces > 2:
                return
