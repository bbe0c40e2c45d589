"""An engine over a vLLM that is played, for tests of what it does with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.fake_vllm import FakeVllm, Play
from vlm_dlm.events import GenerationEvent
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.vllm.engine import Pace, VllmEngine
from vlm_dlm.serving.vllm.servers import RemoteServer

PACE = Pace(soon_s=0.02, poll_s=0.02, health_s=0.3, max_ailments=2)
PATIENCE_S = 5.0
PROMPT = PromptInput((10, 1356, 1010, 1500, 11))

Test = Callable[[VllmEngine], Awaitable[None]]


def run(
    vllm: FakeVllm,
    checkpoint: Checkpoint,
    test: Test,
    play: Play | None = None,
    *,
    is_ready: bool = True,
) -> None:
    """`test` with an engine over the fake, ready unless that is not wanted; from then on it does
    what `play` says."""

    async def running() -> None:
        engine = VllmEngine(RemoteServer(vllm.url, "secret", None), checkpoint, pace=PACE)
        await engine.start()
        try:
            if is_ready:
                await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)
            vllm.play = play or vllm.play
            await test(engine)
        finally:
            await engine.close()
        assert engine.state.phase is Phase.CLOSED

    asyncio.run(running())


def asked(**sampling: object) -> GenerationRequest:
    return GenerationRequest("one", PROMPT, "ar", sampling=SamplingParams(**sampling))  # pyright: ignore[reportArgumentType]


async def events_of(engine: VllmEngine, request: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in engine.generate(request)]


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():
            await asyncio.sleep(0.005)
