"""POST /v1/compare: several modes in a queue, a deadline for all of them, a client who leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.modes import ScriptedModes, running
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm_app.answering import comparison
from vlm_dlm_app.settings.model import Settings

PATH = "/v1/compare"
ASK: dict[str, Any] = {"prompt": "What is this?"}
WORDS = ("There ", "is ", "one ", "object.")
SLOW = Script(tuple("abcdefghij"), step_s=0.1)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_full_queue_is_429_before_any_work(is_parallel: bool) -> None:
    script = Script(tuple("abcdefghij"), step_s=0.05, max_running=1)

    async def run() -> None:
        engine = ScriptedModes(script)
        async with running(engine, Settings(max_waiting=1)) as server:
            tasks = [asyncio.create_task(server.answer("/v1/generate", ASK))]
            while server.service.num_running < 1:  # as many may be prepared at once as may wait
                await asyncio.sleep(0.002)
            tasks.append(asyncio.create_task(server.answer("/v1/generate", ASK)))
            while server.service.num_waiting < 1:
                await asyncio.sleep(0.002)
            for is_stream in (False, True):
                body = {**ASK, "parallel": is_parallel, "stream": is_stream}
                reply = await server.post(PATH, body)
                assert reply.status_code == 429
                assert int(reply.headers["retry-after"]) >= 1
            await asyncio.gather(*tasks)
        assert len(engine.requests) == 2

    asyncio.run(run())


def test_a_later_mode_waits_for_room_in_a_full_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four modes at once where one may wait: the others come in one by one."""
    script = Script(WORDS, step_s=0.005, max_running=1)

    async def run() -> None:
        async with running(ScriptedModes(script), Settings(max_waiting=1)) as server:
            reply = await server.answer(PATH, {**ASK, "parallel": True})
        assert [one["error"] for one in reply["results"]] == [None] * 4

    asyncio.run(run())


def test_a_stream_says_where_in_the_queue_each_mode_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "QUEUE_S", 0.05)
    script = Script(tuple("abcdefghij"), step_s=0.03, max_running=1)

    async def run() -> list[tuple[str, dict[str, Any]]]:
        async with running(ScriptedModes(script)) as server:
            others = [asyncio.create_task(server.answer("/v1/generate", ASK)) for _ in range(3)]
            while server.service.num_waiting < 2:
                await asyncio.sleep(0.002)
            events = await server.events(PATH, {**ASK, "modes": ["ar"]})
            await asyncio.gather(*others)
        return events

    events = asyncio.run(run())
    places = [data["position"] for kind, data in events if kind == "queue"]
    assert places[0] == 3
    assert places == sorted(places, reverse=True)
    assert {data["mode"] for kind, data in events if kind == "queue"} == {"ar"}
    kinds = [kind for kind, _ in events]
    assert kinds.index("started") == len(places)


def test_the_deadline_is_that_of_the_whole_comparison() -> None:
    async def run() -> None:
        async with running(ScriptedModes(SLOW, ar=Script())) as server:
            body = {**ASK, "options": {"deadline_s": 0.5}}
            reply = await server.answer(PATH, body)  # all but ar take 1 s
        errors = [one["error"] and one["error"]["code"] for one in reply["results"]]
        assert errors == [None, *["deadline_exceeded"] * 3]

    asyncio.run(run())


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_client_who_leaves_ends_all_modes(is_parallel: bool, is_stream: bool) -> None:
    async def run() -> None:
        engine = ScriptedModes(SLOW)
        num = 4 if is_parallel else 1
        async with running(engine) as server:
            body = {**ASK, "stream": is_stream, "parallel": is_parallel}
            await server.leave_when(lambda: engine.num_running == num, PATH, body)
            assert engine.num_running == server.service.num_running == 0
            assert engine.num_aborted == len(engine.requests) == num
            assert server.service.num_waiting == 0

    asyncio.run(run())
