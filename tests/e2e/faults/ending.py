"""SIGTERM lets open answers finish; a second one ends them with a last event, or with an error
where no answer has begun."""

from __future__ import annotations

import asyncio
import os
import signal
from time import perf_counter
from typing import Any

from tests.e2e.client import Connection, Outcome, ask, ask_once, post
from tests.e2e.faults.check import Check, Watcher, spread
from tests.e2e.faults.disconnect import CHAT
from tests.e2e.server import Server, total
from tests.e2e.workload import chat, pictures

BEGIN_S = 30.0
REFUSE_S = 0.5
ABORT_S = 3.0


async def check_drain(server: Server, num_streams: int, body: dict[str, Any]) -> Check:
    """After SIGTERM all open streams finish, new requests get 503, and the exit code is 0."""
    check = Check(f"SIGTERM with {num_streams} open streams")
    tasks = await _open_streams(server, num_streams, body)
    began_s = perf_counter()
    server.signal(signal.SIGTERM)
    late = await _late(server)
    is_early = all(task.done() for task in tasks)
    outcomes = await asyncio.gather(*tasks)
    code = await asyncio.to_thread(server.wait)
    whole = [outcome for outcome in outcomes if outcome.is_complete and outcome.error is None]
    check.figures = {
        "finished": len(whole),
        "seconds": round(perf_counter() - began_s, 2),
        "exit_code": code,
        "late_status": late.status,
    }
    check.expect(len(whole) == num_streams, f"only {len(whole)} of {num_streams} finished")
    check.expect(not is_early, "the streams were over before a late request came")
    check.expect(code == 0, f"exit code {code}")
    check.expect(late.status == 503, f"a late request got status {late.status}")
    check.expect("retry-after" in late.headers, "a late request got no Retry-After")
    _expect_no_orphans(check, server)
    return check


async def check_second_signal(server: Server, num_streams: int, body: dict[str, Any]) -> Check:
    """A second SIGTERM ends every stream with a terminal event, at once."""
    check = Check(f"second SIGTERM with {num_streams} open streams")
    tasks = await _open_streams(server, num_streams, body)
    server.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    check.expect(not any(task.done() for task in tasks), "a stream ended after the first signal")
    began_s = perf_counter()
    server.signal(signal.SIGTERM)
    outcomes = await asyncio.gather(*tasks)
    ends = [outcome.end_s - began_s for outcome in outcomes if outcome.end_s is not None]
    code = await asyncio.to_thread(server.wait)
    told = [outcome for outcome in outcomes if outcome.is_answered]
    check.figures = {
        "told": len(told),
        "end_ms": spread(ends),
        "exit_code": code,
        "exit_s": round(perf_counter() - began_s, 2),
    }
    check.expect(len(told) == num_streams, f"only {len(told)} of {num_streams} got a last event")
    check.expect(max(ends, default=0) <= ABORT_S, f"the last end took {max(ends):.2f} s")
    check.expect(code == 0, f"exit code {code}")
    _expect_no_orphans(check, server)
    return check


async def check_unanswered(server: Server) -> Check:
    """A second SIGTERM while one request sends its body and another one's image is being decoded:
    both are told so, in the form of every error."""
    check = Check("second SIGTERM before answers begin")
    for process in server.processes():
        if "decode_child" in process.command:
            os.kill(process.pid, signal.SIGSTOP)
    half = post(CHAT, chat())
    tasks = [
        asyncio.create_task(ask_once(server.host, server.port, request))
        for request in (half[:-5], post(CHAT, chat(pictures(1), is_streamed=False)))
    ]
    async with Watcher(server) as watcher:
        await watcher.until(lambda found: total(found, "num_requests_preparing") == 1, BEGIN_S)
    server.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    check.expect(not any(task.done() for task in tasks), "a request ended after the first signal")
    began_s = perf_counter()
    server.signal(signal.SIGTERM)
    outcomes = await asyncio.gather(*tasks)
    ends = [outcome.end_s - began_s for outcome in outcomes if outcome.end_s is not None]
    code = await asyncio.to_thread(server.wait)
    told = [(outcome.status, outcome.error) for outcome in outcomes]
    check.figures = {"told": told, "end_ms": spread(ends), "exit_code": code}
    check.expect(told == [(503, "unavailable")] * 2, f"the answers were {told}")
    are_told_when = all("retry-after" in outcome.headers for outcome in outcomes)
    check.expect(are_told_when, "an answer had no Retry-After")
    check.expect(max(ends, default=0) <= ABORT_S, f"the last end took {max(ends):.2f} s")
    check.expect("Traceback" not in server.log, "the log has a traceback")
    check.expect(code == 0, f"exit code {code}")
    _expect_no_orphans(check, server)
    return check


async def _open_streams(
    server: Server, num_streams: int, body: dict[str, Any]
) -> list[asyncio.Task[Outcome]]:
    """So many streams, each of which has brought its first text."""
    server.processes()
    request = post(CHAT, body)
    outcomes = [Outcome(perf_counter()) for _ in range(num_streams)]

    async def one(outcome: Outcome) -> Outcome:
        async with await Connection.open(server.host, server.port) as connection:
            return await ask(connection, request, outcome=outcome)

    tasks = [asyncio.create_task(one(outcome)) for outcome in outcomes]
    deadline_s = perf_counter() + BEGIN_S
    while not all(outcome.first_s for outcome in outcomes):
        if perf_counter() > deadline_s or any(task.done() for task in tasks):
            raise AssertionError("the streams did not all begin, or one ended too soon")
        await asyncio.sleep(0.01)
    return tasks


async def _late(server: Server) -> Outcome:
    """A new request, as soon as the server refuses one; the last outcome if it never does."""
    deadline_s = perf_counter() + REFUSE_S
    while True:
        outcome = await ask_once(server.host, server.port, post(CHAT, chat(max_tokens=1)))
        if outcome.status == 503 or perf_counter() > deadline_s:
            return outcome


def _expect_no_orphans(check: Check, server: Server) -> None:
    left = [process.command for process in server.orphans()]
    check.expect(not left, f"these are left: {'; '.join(left)}")
