"""Several answers as one stream: who begins when, what an error ends, and who waits for room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.errors import DeadlineError, EngineError
from vlm_dlm.events import Finished
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.serving.queue.service import Service, ServiceConfig, Ticket
from vlm_dlm_app.answering.tracking import patiently
from vlm_dlm_app.http.fan_in import Group, merged


class Streams:
    """seen: what each has yielded. ended: those that are over, also because they were closed."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.ended: set[str] = set()

    async def stream(
        self, name: str, num: int, error: Exception | None = None
    ) -> AsyncGenerator[str, None]:
        try:
            for index in range(num):
                await asyncio.sleep(0.002)
                self.seen.append(f"{name}{index}")
                yield f"{name}{index}"
            if error is not None:
                raise error
        finally:
            self.ended.add(name)


def test_the_others_begin_when_the_first_is_ready() -> None:
    async def run() -> None:
        streams, group = Streams(), Group()
        both = [streams.stream("a", 3), streams.stream("b", 2)]
        async with aclosing(merged(both, lambda item: item == "a1", group)) as items:
            found = [item async for item in items]
        assert found[:2] == ["a0", "a1"]
        assert sorted(found) == ["a0", "a1", "a2", "b0", "b1"]
        assert not group.is_lost

    asyncio.run(run())


def test_the_others_begin_at_the_latest_when_the_first_has_ended() -> None:
    async def run() -> None:
        streams = Streams()
        both = [streams.stream("a", 1), streams.stream("b", 1)]
        found = [item async for item in merged(both, lambda _: False, Group())]
        assert found == ["a0", "b0"]

    asyncio.run(run())


def test_an_error_ends_the_others_and_their_group_knows() -> None:
    async def run() -> None:
        streams, group = Streams(), Group()
        both = [streams.stream("a", 2, EngineError("lost")), streams.stream("b", 500)]
        with pytest.raises(EngineError):
            async for _ in merged(both, lambda _: True, group):
                pass
        assert streams.ended == {"a", "b"}
        assert group.is_lost

    asyncio.run(run())


def test_who_stops_reading_ends_all_and_nobody_has_failed() -> None:
    async def run() -> None:
        streams, group = Streams(), Group()
        both = [streams.stream("a", 500), streams.stream("b", 500)]
        async with aclosing(merged(both, lambda _: True, group)) as items:
            async for item in items:
                if item == "b0":
                    break
        assert streams.ended == {"a", "b"}
        assert not group.is_lost

    asyncio.run(run())


def test_a_slow_reader_holds_the_streams_back() -> None:
    async def run() -> None:
        streams = Streams()
        async with aclosing(merged([streams.stream("a", 500)], lambda _: True, Group())) as items:
            await anext(items)
            await asyncio.sleep(0.5)
            assert len(streams.seen) < 100

    asyncio.run(run())


def ticket(deadline_s: float | None = None) -> Ticket:
    return Ticket(GenerationRequest("r", PromptInput((1,)), "ar", None), deadline_s=deadline_s)


@pytest.mark.parametrize("deadline_s", [None, 0.1, 5.0])
def test_what_was_accepted_waits_for_room_until_its_deadline(deadline_s: float | None) -> None:
    """One runs, one waits, and that is all the queue takes."""

    async def run() -> None:
        engine = ScriptedEngine(Script(step_s=0.05, max_running=1))
        service = Service(engine, ServiceConfig(max_waiting=1))

        async def read(stream: AsyncGenerator[object, None]) -> list[object]:
            async with aclosing(stream):
                return [event async for event in stream]

        others = [asyncio.create_task(read(patiently(service, ticket()))) for _ in range(2)]
        await asyncio.sleep(0.01)
        own = read(patiently(service, ticket(deadline_s)))
        if deadline_s == 0.1:
            with pytest.raises(DeadlineError):
                await own
        else:
            assert isinstance((await own)[-1], Finished)
        await asyncio.gather(*others)

    asyncio.run(run())
