"""Turns, deadlines, leaving and draining, over the scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.errors import BadInputError, DeadlineError, QueueFullError
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent, Started
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.queue.fair_queue import Priority
from vlm_dlm.serving.queue.service import Service, ServiceConfig, Ticket

SLOW = Script(step_s=0.01, max_running=1)


def ticket(name: str = "r", client: str = "a", max_tokens: int = 4, **options: object) -> Ticket:
    request = GenerationRequest(
        name, PromptInput((1, 2, 3)), sampling=SamplingParams(max_tokens=max_tokens)
    )
    return Ticket(request, client, **options)  # type: ignore[arg-type]


async def collect(service: Service, wanted: Ticket) -> list[GenerationEvent]:
    return [event async for event in service.generate(wanted)]


def test_events_pass_through() -> None:
    async def run() -> list[GenerationEvent]:
        return await collect(Service(ScriptedEngine()), ticket())

    events = asyncio.run(run())
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert "".join(e.text for e in events if isinstance(e, Committed)) == "There is one object."


def test_never_more_than_the_engine_takes_and_turns_are_fair() -> None:
    order: list[str] = []

    async def one(service: Service, name: str, client: str) -> None:
        async for event in service.generate(ticket(name, client)):
            if isinstance(event, Started):
                order.append(name)
                assert service.num_running <= 1

    async def run() -> Service:
        service = Service(ScriptedEngine(SLOW))
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(one(service, f"greedy {number}", "greedy"))
            await asyncio.sleep(0.005)
            group.create_task(one(service, "new", "new"))
        return service

    service = asyncio.run(run())
    assert order.index("new") <= 2
    assert sorted(order) == ["greedy 0", "greedy 1", "greedy 2", "greedy 3", "new"]
    assert (service.num_running, service.num_waiting, service.num_waiting_tokens) == (0, 0, 0)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def run() -> QueueFullError:
        service = Service(ScriptedEngine(SLOW), ServiceConfig(max_waiting=2))
        tasks = [
            asyncio.create_task(collect(service, ticket(f"{i}", f"client {i}"))) for i in range(3)
        ]
        await asyncio.sleep(0.005)
        with pytest.raises(QueueFullError, match="limit is 2") as refusal:
            await collect(service, ticket("late", "late"))
        assert all(isinstance(events[-1], Finished) for events in await asyncio.gather(*tasks))
        return refusal.value

    assert asyncio.run(run()).retry_after_s >= 1


def test_one_client_cannot_fill_the_queue() -> None:
    async def run() -> None:
        service = Service(ScriptedEngine(SLOW), ServiceConfig(max_waiting=4))
        tasks = [asyncio.create_task(collect(service, ticket(f"{i}"))) for i in range(3)]
        await asyncio.sleep(0.005)
        with pytest.raises(QueueFullError, match="limit for one client is 2"):
            await collect(service, ticket("late"))
        tasks.append(asyncio.create_task(collect(service, ticket("other", "other"))))
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_leaving_while_waiting_costs_the_engine_nothing() -> None:
    async def run() -> None:
        engine = ScriptedEngine(SLOW)
        service = Service(engine)
        first = asyncio.create_task(collect(service, ticket("first")))
        second = asyncio.create_task(collect(service, ticket("second")))
        await asyncio.sleep(0.005)
        assert (service.num_running, service.num_waiting) == (1, 1)
        second.cancel()
        await asyncio.wait([second])
        assert service.num_waiting == 0
        await first
        assert (engine.num_running, engine.num_aborted, service.num_running) == (0, 0, 0)

    asyncio.run(run())


def test_leaving_while_running_aborts_and_frees_the_turn() -> None:
    async def run() -> None:
        engine = ScriptedEngine(SLOW)
        service = Service(engine)
        stream = service.generate(ticket("first"))
        async with aclosing(stream):
            assert isinstance(await anext(stream), Started)
        assert (engine.num_running, engine.num_aborted, service.num_running) == (0, 1, 0)
        assert isinstance((await collect(service, ticket("second")))[-1], Finished)

    asyncio.run(run())


def test_a_deadline_ends_a_waiting_request() -> None:
    async def run() -> None:
        service = Service(ScriptedEngine(SLOW))
        first = asyncio.create_task(collect(service, ticket("first")))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineError, match="waiting"):
            await collect(service, ticket("second", deadline_s=0.005))
        assert service.num_waiting == 0
        assert isinstance((await first)[-1], Finished)

    asyncio.run(run())


def test_a_deadline_ends_a_running_request_with_one_terminal_event() -> None:
    async def run() -> None:
        engine = ScriptedEngine(SLOW)
        service = Service(engine)
        events = await collect(service, ticket(deadline_s=0.015))
        assert isinstance(events[-1], Failed)
        assert events[-1].code == DeadlineError.code
        assert sum(isinstance(event, Failed | Finished) for event in events) == 1
        assert (engine.num_running, engine.num_aborted, service.num_running) == (0, 1, 0)

    asyncio.run(run())


class _LingeringEngine(ScriptedEngine):
    """Still busy for a while after its last event."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        async for event in super().generate(request):
            yield event
        await asyncio.sleep(10)


def test_nothing_follows_the_terminal_event() -> None:
    async def run() -> list[GenerationEvent]:
        service = Service(_LingeringEngine())
        events = await collect(service, ticket(deadline_s=0.5))
        assert service.num_running == 0
        return events

    events = asyncio.run(run())
    assert sum(isinstance(event, Failed | Finished) for event in events) == 1
    assert isinstance(events[-1], Finished)


class _TimingOutEngine(ScriptedEngine):
    """Fails with an error that looks like a passed deadline."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        async for event in super().generate(request):
            yield event
            raise TimeoutError


def test_an_engine_timeout_is_not_a_passed_deadline() -> None:
    async def run() -> None:
        service = Service(_TimingOutEngine(), ServiceConfig(deadline_s=None))
        with pytest.raises(TimeoutError):
            await collect(service, ticket())
        assert service.num_running == 0

    asyncio.run(run())


def test_leaving_in_the_moment_of_ones_turn_passes_the_turn_on() -> None:
    async def run() -> None:
        service = Service(ScriptedEngine(SLOW))
        first = service.generate(ticket("first"))
        await anext(first)
        second = asyncio.create_task(collect(service, ticket("second")))
        third = asyncio.create_task(collect(service, ticket("third")))
        await asyncio.sleep(0)
        await first.aclose()  # grants the turn to the second
        second.cancel()  # before it has seen it
        assert isinstance((await third)[-1], Finished)
        assert second.cancelled()
        assert (service.num_running, service.num_waiting) == (0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("max_running", [0, 9])
def test_limits_beyond_the_engine_are_refused(max_running: int) -> None:
    with pytest.raises(BadInputError, match="1 to 8"):
        Service(ScriptedEngine(), ServiceConfig(max_running=max_running))


def test_an_engine_failure_is_the_only_terminal_event() -> None:
    async def run() -> list[GenerationEvent]:
        return await collect(Service(ScriptedEngine(Script(fail_after=2))), ticket())

    events = asyncio.run(run())
    assert isinstance(events[-1], Failed)
    assert sum(isinstance(event, Committed) for event in events) == 2


def test_batch_requests_wait_for_interactive_ones() -> None:
    order: list[str] = []

    async def one(service: Service, name: str, priority: Priority) -> None:
        async for event in service.generate(ticket(name, name, priority=priority)):
            if isinstance(event, Started):
                order.append(name)

    async def run() -> None:
        service = Service(ScriptedEngine(SLOW))
        async with asyncio.TaskGroup() as group:
            for name in ("running", "batch"):
                group.create_task(one(service, name, Priority.BATCH))
                await asyncio.sleep(0)
            group.create_task(one(service, "interactive", Priority.INTERACTIVE))

    asyncio.run(run())
    assert order == ["running", "interactive", "batch"]
