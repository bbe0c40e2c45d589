"""The engine in its thread: events reach asyncio callers, and every stream ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tests.integration.engine.harness import IDS, LaggingDetokenizer, core_of, tiny_model
from tests.invariants import assert_stream
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.torch_engine import TorchEngine
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.errors import EngineError, ModeError, PromptError
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams


def new_core() -> EngineCore:
    return core_of(tiny_model(), config=EngineConfig(max_cache_tokens=2048))


def request(name: str, mode: str = "ar", max_tokens: int = 12, **changes: Any) -> GenerationRequest:
    prompt = changes.pop("prompt", PromptInput((1, 2, 3, 4, 5)))
    sampling = SamplingParams(max_tokens=max_tokens, temperature=1.0, seed=len(name))
    return GenerationRequest(name, prompt, mode, sampling=sampling, **changes)


async def collect(engine: TorchEngine, wanted: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in engine.generate(wanted)]


def token_ids(events: list[GenerationEvent]) -> list[int]:
    return [t.id for event in events if isinstance(event, Committed) for t in event.tokens]


def test_concurrent_callers_get_what_the_core_gives() -> None:
    wanted = [request(f"{mode} {i}", mode) for mode in MODES for i in range(3)]

    async def run() -> list[list[GenerationEvent]]:
        engine = TorchEngine(new_core())
        try:
            return await asyncio.gather(*(collect(engine, one) for one in wanted))
        finally:
            await engine.close()

    for one, events in zip(wanted, asyncio.run(run()), strict=True):
        assert_stream(events, IDS)
        assert token_ids(events) == token_ids(list(new_core().run([one])))


def test_closing_the_iterator_aborts_and_frees_the_cache() -> None:
    core = new_core()

    async def run() -> None:
        engine = TorchEngine(core)
        stream = engine.generate(request("long", max_tokens=200))
        async for event in stream:
            if isinstance(event, Committed):
                break
        await stream.aclose()
        for _ in range(200):
            if core.allocator.num_free == core.allocator.num_pages and not core.has_work:
                break
            await asyncio.sleep(0.01)
        assert core.allocator.num_free == core.allocator.num_pages
        await engine.close()

    asyncio.run(run())


def test_close_ends_every_stream_with_one_terminal_event() -> None:
    async def run() -> list[list[GenerationEvent]]:
        engine = TorchEngine(new_core())
        wanted = [request(f"long {i}", max_tokens=200) for i in range(4)]
        tasks = [asyncio.create_task(collect(engine, one)) for one in wanted]
        await asyncio.sleep(0.05)
        await engine.close()
        with pytest.raises(EngineError):
            await collect(engine, request("late"))
        return await asyncio.gather(*tasks)

    for events in asyncio.run(run()):
        last = events[-1]
        assert isinstance(last, Finished)
        assert last.reason in ("abort", "stop")


class BrokenCore(EngineCore):
    """Fails where the core never should: in a whole step, and again in closing."""

    steps_fail = True

    def step(self) -> list[GenerationEvent]:
        if self.steps_fail:
            raise RuntimeError("step")
        return []

    def close(self) -> list[GenerationEvent]:
        raise RuntimeError("close")


def broken_core() -> BrokenCore:
    limits = EngineConfig(max_cache_tokens=2048)
    return BrokenCore(TorchRunner(tiny_model(), None, limits), IDS, LaggingDetokenizer, limits)


@pytest.mark.parametrize("steps_fail", [True, False])
def test_a_broken_core_leaves_nobody_waiting(steps_fail: bool) -> None:
    core = broken_core()
    core.steps_fail = steps_fail

    async def run() -> list[GenerationEvent]:
        engine = TorchEngine(core)
        task = asyncio.create_task(collect(engine, request("a")))
        await asyncio.sleep(0.05)
        await engine.close()
        with pytest.raises(EngineError):
            await collect(engine, request("late"))
        return await task

    last = asyncio.run(asyncio.wait_for(run(), 10))[-1]
    assert isinstance(last, Failed)
    assert last.code == EngineError.code


def test_a_broken_engine_says_so_once_and_takes_nothing_more() -> None:
    core = broken_core()
    calls: list[int] = []

    async def run() -> None:
        engine = TorchEngine(core)
        engine.on_broken(lambda: calls.append(1))
        assert isinstance((await collect(engine, request("a")))[-1], Failed)
        with pytest.raises(EngineError):
            await collect(engine, request("late"))
        while not calls:
            await asyncio.sleep(0.01)
        engine.on_broken(lambda: calls.append(2))  # whoever asks too late is told at once
        await engine.close()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert calls == [1, 2]


def test_closing_is_not_breaking() -> None:
    async def run() -> list[int]:
        calls: list[int] = []
        engine = TorchEngine(new_core())
        engine.on_broken(lambda: calls.append(1))
        await engine.close()
        return calls

    assert asyncio.run(run()) == []


def test_an_abort_that_raises_ends_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    core = new_core()
    abort = core.abort

    def refuse(request_id: str) -> list[GenerationEvent]:
        if request_id == "bad":
            abort(request_id)
            raise RuntimeError("abort")
        return abort(request_id)

    monkeypatch.setattr(core, "abort", refuse)

    async def run() -> None:
        engine = TorchEngine(core)
        stream = engine.generate(request("bad", max_tokens=200))
        await anext(stream)
        await stream.aclose()
        assert_stream(await collect(engine, request("good")), IDS)
        await engine.close()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_refused_requests_leave_the_engine_running() -> None:
    async def run() -> None:
        engine = TorchEngine(new_core())
        with pytest.raises(ModeError):
            await collect(engine, request("a", mode="no such mode"))
        with pytest.raises(PromptError):
            await collect(engine, request("b", prompt=PromptInput(())))
        with pytest.raises(EngineError):
            await collect(engine, request("c", prompt=cast("PromptInput", None)))
        assert_stream(await collect(engine, request("d")), IDS)
        await engine.close()

    asyncio.run(run())


def test_capabilities_list_the_modes() -> None:
    async def run() -> None:
        engine = TorchEngine(new_core())
        assert [mode.name for mode in engine.capabilities.modes] == list(MODES)
        assert "block_length" in engine.capabilities.modes[1].options
        await engine.close()

    asyncio.run(run())
