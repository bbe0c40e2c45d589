"""The service over an engine that loads, is lost and comes back; slow callers; the hard stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from time import monotonic

import pytest

from tests.unit.serving.test_service import SLOW, collect, ticket
from vlm_dlm.engine.base import Capabilities
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.errors import DeadlineError, EngineError, QueueFullError, UnavailableError
from vlm_dlm.events import Canvas, Committed, Failed, Finished, GenerationEvent, Started
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.managed import StatefulEngine
from vlm_dlm.serving.queue.service import Service, ServiceConfig, Ticket


class LivingEngine(StatefulEngine):
    """A scripted engine whose life the test decides."""

    def __init__(self, script: Script = SLOW, phase: Phase = Phase.READY) -> None:
        super().__init__()
        self.inner = ScriptedEngine(script)
        self._set(phase=phase)

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    async def start(self) -> None:
        self.turn_to(Phase.READY)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        async for event in self.inner.generate(request):
            yield event

    async def close(self) -> None:
        await self.inner.close()

    def turn_to(self, phase: Phase, reason: str = "") -> None:
        self._set(phase=phase, reason=reason)

    def lose(self) -> None:
        self._set(phase=Phase.LOADING)
        self._tell_lost()


def open_stream(service: Service, wanted: Ticket) -> AsyncGenerator[GenerationEvent, None]:
    return service.generate(wanted)


@pytest.mark.parametrize(
    ("phase", "message", "retry_after_s"),
    [
        (Phase.LOADING, "being loaded", 2),
        (Phase.WARMING, "being loaded", 2),
        (Phase.DOWN, "the reason", 60),
        (Phase.CLOSED, "the reason", 5),
    ],
)
def test_only_a_ready_engine_gets_requests(phase: Phase, message: str, retry_after_s: int) -> None:
    async def run() -> None:
        engine = LivingEngine(Script(), phase)
        engine.turn_to(phase, "the reason")
        service = Service(engine)
        assert not service.is_ready
        with pytest.raises(UnavailableError, match=message) as refusal:
            await collect(service, ticket())
        with pytest.raises(UnavailableError, match=message):
            service.check_room("a")
        assert refusal.value.retry_after_s == retry_after_s
        engine.turn_to(Phase.READY)
        assert service.is_ready
        assert isinstance((await collect(service, ticket()))[-1], Finished)

    asyncio.run(run())


def test_losing_the_engine_refuses_at_once_who_waits() -> None:
    async def run() -> None:
        engine = LivingEngine()
        service = Service(engine)
        first = asyncio.create_task(collect(service, ticket("first")))
        waiting = [asyncio.create_task(collect(service, ticket(f"{i}"))) for i in range(3)]
        await asyncio.sleep(0.005)
        assert (service.num_running, service.num_waiting) == (1, 3)
        engine.lose()
        await asyncio.wait(waiting, timeout=0.005)
        for task in waiting:
            assert isinstance(task.exception(), UnavailableError)
        assert (service.num_running, service.num_waiting) == (1, 0)
        await first
        assert service.num_running == 0
        engine.turn_to(Phase.READY)
        assert isinstance((await collect(service, ticket("next")))[-1], Finished)

    asyncio.run(run())


def test_the_hard_stop_gives_everybody_a_last_word() -> None:
    async def run() -> None:
        engine = ScriptedEngine(Script(step_s=5.0, max_running=2))
        service = Service(engine)
        running = [asyncio.create_task(collect(service, ticket(f"r{i}"))) for i in range(2)]
        waiting = asyncio.create_task(collect(service, ticket("w", "b")))
        await asyncio.sleep(0.005)
        assert (service.num_running, service.num_waiting) == (2, 1)
        began = monotonic()
        service.abort_all()
        with pytest.raises(UnavailableError, match="shutting down"):
            await waiting
        for events in await asyncio.gather(*running):
            last = events[-1]
            assert isinstance(last, Failed)
            assert (last.code, last.message) == ("unavailable", "the server is shutting down")
            assert sum(isinstance(event, Failed | Finished) for event in events) == 1
        assert monotonic() - began < 2.0
        assert (engine.num_running, engine.num_aborted, service.num_running) == (0, 2, 0)
        assert not service.is_ready
        with pytest.raises(UnavailableError, match="shutting down"):
            await collect(service, ticket("late"))

    asyncio.run(run())


def test_the_hard_stop_reaches_a_caller_who_has_not_read_yet() -> None:
    async def run() -> list[GenerationEvent]:
        service = Service(ScriptedEngine(Script(step_s=5.0)))
        stream = open_stream(service, ticket())
        events = [await anext(stream)]
        service.abort_all()
        service.abort_all()  # an impatient operator
        return events + [event async for event in stream]

    events = asyncio.run(run())
    assert [type(event) for event in events] == [Started, Failed]


def test_a_caller_who_does_not_read_keeps_no_turn() -> None:
    async def run() -> None:
        engine = ScriptedEngine(SLOW)
        service = Service(engine)
        slow = open_stream(service, ticket("slow"))
        async with aclosing(slow):
            assert isinstance(await anext(slow), Started)
            assert isinstance((await collect(service, ticket("other")))[-1], Finished)
            assert (service.num_running, engine.num_aborted) == (0, 0)
            rest = [event async for event in slow]
        assert isinstance(rest[-1], Finished)
        assert sum(isinstance(event, Committed) for event in rest) == 4

    asyncio.run(run())


def test_a_caller_who_does_not_read_cannot_outlive_the_deadline() -> None:
    async def run() -> None:
        engine = ScriptedEngine(Script(step_s=5.0, max_running=1))
        service = Service(engine)
        slow = open_stream(service, ticket("slow", deadline_s=0.05))
        async with aclosing(slow):
            await anext(slow)
            await asyncio.sleep(0.2)
            assert (engine.num_aborted, service.num_running) == (1, 0)
            (last,) = [event async for event in slow]
        assert isinstance(last, Failed)
        assert last.code == DeadlineError.code

    asyncio.run(run())


def test_canvases_are_dropped_for_a_caller_who_does_not_read() -> None:
    async def run() -> list[GenerationEvent]:
        script = Script(words=("word ",) * 300, has_canvas=True)
        service = Service(ScriptedEngine(script))
        slow = open_stream(service, ticket(max_tokens=300))
        events = [await anext(slow)]
        while service.num_running:
            await asyncio.sleep(0.001)
        return events + [event async for event in slow]

    events = asyncio.run(run())
    assert sum(isinstance(event, Canvas) for event in events) < 100
    assert sum(isinstance(event, Committed) for event in events) == 300


def test_room_is_told_without_queueing() -> None:
    async def run() -> None:
        service = Service(ScriptedEngine(SLOW), ServiceConfig(max_waiting=2, max_waiting_tokens=10))
        service.check_room("a")
        tasks = [asyncio.create_task(collect(service, ticket(f"{i}"))) for i in range(2)]
        await asyncio.sleep(0.005)
        with pytest.raises(QueueFullError, match="one client"):
            service.check_room("a")
        service.check_room("b")
        with pytest.raises(QueueFullError, match="prompt tokens"):
            service.check_room("b", 8)
        tasks.append(asyncio.create_task(collect(service, ticket("2", "b"))))
        await asyncio.sleep(0.002)
        with pytest.raises(QueueFullError, match="limit is 2") as refusal:
            service.check_room("c")
        assert refusal.value.retry_after_s >= 1
        assert service.num_waiting == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert (service.num_running, service.num_waiting) == (0, 0)

    asyncio.run(run())


def test_leaving_before_the_first_step_gives_the_turn_back() -> None:
    async def run() -> None:
        service = Service(ScriptedEngine(SLOW))
        for number in range(3):  # each would block the next
            task = asyncio.create_task(collect(service, ticket(f"{number}")))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        assert service.num_running == 0
        assert isinstance((await collect(service, ticket()))[-1], Finished)

    asyncio.run(run())


class _RefusingEngine(ScriptedEngine):
    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        if request.request_id == "bad":
            raise EngineError("no")
        async for event in super().generate(request):
            yield event


def test_a_refusal_of_the_engine_reaches_the_caller_and_frees_the_turn() -> None:
    async def run() -> None:
        service = Service(_RefusingEngine(SLOW))
        with pytest.raises(EngineError, match=r"^no$"):
            await collect(service, ticket("bad"))
        assert service.num_running == 0
        assert isinstance((await collect(service, ticket("good")))[-1], Finished)

    asyncio.run(run())
