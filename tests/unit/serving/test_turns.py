"""What a turn costs, and that nobody gets more than half while others wait."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.unit.serving.test_service import collect, ticket
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.base import Capabilities
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.errors import DeadlineError
from vlm_dlm.events import Finished, Started
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.queue.service import Service, ServiceConfig
from vlm_dlm.serving.queue.turns import Turn, Turns, slots_needed

WIDE = 68  # tokens of an answer that takes 72 slots: 3 of the prompt and 1 row more


def request(num_prompt: int, max_tokens: int, mode: str = "ar") -> GenerationRequest:
    prompt = PromptInput(tuple(range(num_prompt)))
    return GenerationRequest("r", prompt, mode, sampling=SamplingParams(max_tokens=max_tokens))


def engine(max_cache_tokens: int | None, step_s: float = 0.002) -> ScriptedEngine:
    return ScriptedEngine(Script(step_s=step_s, max_running=8, max_cache_tokens=max_cache_tokens))


@pytest.mark.parametrize("mode", MODES)
def test_a_turn_costs_whole_pages_of_the_worst_case(mode: str) -> None:
    wanted = request(20, 13, mode)
    num_rows = MODES[mode]().max_query_len(MODES[mode].Params())
    num_slots = slots_needed(wanted, Capabilities((), 4096, 8, 4096, 16))
    assert num_slots % 16 == 0
    assert num_slots - 16 < 33 + num_rows <= num_slots
    assert slots_needed(wanted, Capabilities((), 4096, 8)) == 0, "no limit"
    assert slots_needed(wanted, Capabilities((), 4096, 8, 32, 16)) == 0, "the engine refuses it"


def test_half_counts_places_and_cache() -> None:
    turns = Turns(4, 100)
    big, small = Turn("a", 60), Turn("a", 10)
    assert not turns.is_over_half(big), "the first turn is never too much"
    turns.take(small)
    assert turns.is_over_half(Turn("a", 41))
    assert not turns.is_over_half(Turn("a", 40))
    turns.take(small)
    assert turns.is_over_half(small), "two of four places"
    assert not turns.is_over_half(Turn("b", 90))
    assert turns.has_room(80)
    assert not turns.has_room(81)
    for _ in range(2):
        turns.give_back(small)
    assert (len(turns), turns.num_slots) == (0, 0)
    assert not turns.is_over_half(big)


def test_nobody_waits_for_cache_inside_the_engine() -> None:
    """Where one client's long answers fill the cache, a newcomer waits for one of them to end."""
    order: list[str] = []

    async def one(service: Service, name: str, client: str) -> None:
        async for event in service.generate(ticket(name, client, WIDE)):
            if isinstance(event, Started):
                order.append(client)
                assert service.num_running <= 3

    async def run() -> Service:
        service = Service(engine(3 * 72))
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(one(service, f"{number}", "greedy"))
            await asyncio.sleep(0.004)
            for number in range(2):
                group.create_task(one(service, f"new {number}", "new"))
        return service

    service = asyncio.run(run())
    assert order[:3] == ["greedy"] * 3
    assert "new" in order[3:5]
    assert Counter(order) == {"greedy": 12, "new": 2}
    assert (service.num_running, service.num_waiting) == (0, 0)


def test_no_client_gets_more_than_half_while_others_wait() -> None:
    held: Counter[str] = Counter()

    async def one(service: Service, name: str, client: str) -> None:
        async for event in service.generate(ticket(name, client)):
            if isinstance(event, Started):
                held[client] += 1
                if client == "greedy" and held["new"]:
                    assert held["greedy"] <= 4 or not service.num_waiting
        held[client] -= 1

    async def run() -> None:
        service = Service(engine(None), ServiceConfig(max_waiting=100))
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(one(service, f"{number}", "greedy"))
            await asyncio.sleep(0.004)
            for number in range(20):
                for client in ("greedy", "new"):
                    group.create_task(one(service, f"{client} {number}", client))

    asyncio.run(run())
    assert held.total() == 0


def test_one_who_leaves_the_line_lets_those_behind_go() -> None:
    async def run() -> None:
        service = Service(engine(100, step_s=0.05))
        first = asyncio.create_task(collect(service, ticket("first", "a", WIDE)))
        await asyncio.sleep(0.005)
        wide = asyncio.create_task(collect(service, ticket("wide", "b", WIDE, deadline_s=0.02)))
        await asyncio.sleep(0.005)
        narrow = asyncio.create_task(collect(service, ticket("narrow", "c")))
        await asyncio.sleep(0.005)
        assert (service.num_running, service.num_waiting) == (1, 2)
        with pytest.raises(DeadlineError):
            await wide
        await asyncio.sleep(0)
        assert (service.num_running, service.num_waiting) == (2, 0)
        for task in (first, narrow):
            assert isinstance((await task)[-1], Finished)

    asyncio.run(run())


def test_only_answers_that_end_count_as_drained() -> None:
    async def run() -> None:
        service = Service(ScriptedEngine(Script(step_s=0.01, max_running=1)))
        first = asyncio.create_task(collect(service, ticket("first")))
        second = asyncio.create_task(collect(service, ticket("second")))
        await asyncio.sleep(0.005)
        first.cancel()
        await asyncio.wait({first})
        second.cancel()  # in the moment of its turn
        await asyncio.wait({second})
        assert service.num_running == 0
        assert service.drain_rate.per_second(1e9) is None
        await collect(service, ticket("third"))
        assert service.drain_rate.per_second(1e9) is not None

    asyncio.run(run())
