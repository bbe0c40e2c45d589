"""The engine in this process, on tiny random weights: the same answers as the runtime's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.scripted_engine import ScriptedEngine
from vlm_dlm.errors import UnavailableError
from vlm_dlm.events import Committed, Finished
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch, read_capabilities
from vlm_dlm.serving.local_engine import LocalEngine

LIMITS = EngineConfig(max_cache_tokens=1024, max_running=4)
SAMPLING = SamplingParams(max_tokens=12)


async def answer(engine: LocalEngine, prompt: PromptInput, mode: str) -> tuple[int, ...]:
    request = GenerationRequest(mode, prompt, mode, sampling=SAMPLING)
    events = [event async for event in engine.generate(request)]
    assert isinstance(events[-1], Finished)
    return tuple(t.id for event in events if isinstance(event, Committed) for t in event.tokens)


def test_it_loads_in_a_thread_and_answers_as_the_runtime_does(
    tiny_checkpoint: Path, scene_file: Path
) -> None:
    from vlm_dlm.runtime import Runtime

    launch = Launch(str(tiny_checkpoint), "cpu", "float32", limits=LIMITS)
    runtime = Runtime.load(tiny_checkpoint, "cpu", "float32", engine_config=LIMITS)
    prompt = runtime.prompt("What is it?", [Image.open(scene_file)], max_tokens=12)
    inputs = runtime.inputs(prompt)
    expected = {
        mode: runtime.answers([GenerationRequest(mode, inputs, mode, sampling=SAMPLING)])[0]
        for mode in MODES
    }

    async def run() -> None:
        engine = LocalEngine(launch)
        assert engine.capabilities == read_capabilities(launch)
        with pytest.raises(UnavailableError, match="loaded"):
            await answer(engine, inputs, "ar")
        await engine.start()
        await engine.wait_ready()
        assert (engine.state.device, engine.state.dtype) == ("cpu", "float32")
        assert engine.engine is not None
        assert engine.engine.capabilities == engine.capabilities
        for mode in MODES:
            assert await answer(engine, inputs, mode) == expected[mode].token_ids
        await engine.close()
        assert engine.state.phase is Phase.CLOSED
        with pytest.raises(UnavailableError):
            await answer(engine, inputs, "ar")

    asyncio.run(run())
    runtime.close()


def test_a_checkpoint_that_cannot_be_loaded_is_told_without_its_path(tmp_path: Path) -> None:
    async def run() -> None:
        capabilities = read_capabilities(Launch(engine="scripted"))
        engine = LocalEngine(Launch(str(tmp_path)), capabilities)
        await engine.start()
        with pytest.raises(UnavailableError, match="cannot be loaded") as refusal:
            await engine.wait_ready()
        assert str(tmp_path) not in str(refusal.value)
        assert str(tmp_path) in str(engine.refusal)
        await engine.close()

    asyncio.run(run())


def test_closing_while_it_loads_ends_in_closed() -> None:
    async def run() -> None:
        engine = LocalEngine(Launch(engine="scripted"))
        await engine.start()
        await engine.close()
        assert engine.state.phase is Phase.CLOSED

    asyncio.run(run())


def test_an_engine_that_breaks_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    callbacks: list[Callable[[], object]] = []
    monkeypatch.setattr(ScriptedEngine, "on_broken", lambda _, callback: callbacks.append(callback))

    async def run() -> None:
        engine = LocalEngine(Launch(engine="scripted"))
        losses: list[Phase] = []
        engine.on_lost(lambda: losses.append(engine.state.phase))
        await engine.start()
        await engine.wait_ready()
        await asyncio.to_thread(callbacks[0])
        await asyncio.sleep(0.01)
        assert losses == [Phase.DOWN]
        with pytest.raises(UnavailableError, match="cannot be kept running"):
            await answer(engine, PromptInput((1, 2)), "ar")
        await engine.close()

    asyncio.run(run())
