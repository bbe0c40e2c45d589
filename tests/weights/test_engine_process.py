"""The shipped checkpoint in an engine process: the tokens of the runtime, also after a loss."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vlm_dlm.decoding import MODES
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process.engine import ProcessEngine

LAUNCH = Launch(device="cpu", dtype="float32")
SAMPLING = SamplingParams(max_tokens=24)
START_S = 240.0


async def collect(engine: ProcessEngine, wanted: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in engine.generate(wanted)]


async def answer(engine: ProcessEngine, wanted: GenerationRequest) -> tuple[int, ...]:
    events = await collect(engine, wanted)
    assert isinstance(events[-1], Finished)
    return tuple(t.id for event in events if isinstance(event, Committed) for t in event.tokens)


async def settle(engine: ProcessEngine) -> None:
    async with asyncio.timeout(START_S):
        await engine.wait_ready()


def as_sent(prompt: PromptInput) -> PromptInput:
    """Pixels as the serving side makes them, which knows no tensors."""
    images = tuple(replace(image, pixels=np.asarray(image.pixels)) for image in prompt.images)
    return replace(prompt, images=images)


def test_the_engine_process_gives_the_runtimes_tokens_also_after_a_kill(scene_file: Path) -> None:
    runtime = Runtime.load(device="cpu", dtype="float32")
    prompt = runtime.prompt("Describe the picture.", [Image.open(scene_file)], max_tokens=24)
    inputs = runtime.inputs(prompt)
    requests = [GenerationRequest(mode, inputs, mode, sampling=SAMPLING) for mode in MODES]
    expected = [runtime.answers([request])[0].token_ids for request in requests]
    runtime.close()
    sent = [replace(request, prompt=as_sent(inputs)) for request in requests]

    async def run() -> None:
        engine = ProcessEngine(LAUNCH)
        await engine.start()
        try:
            await settle(engine)
            assert (engine.state.device, engine.state.dtype) == ("cpu", "float32")
            assert [await answer(engine, request) for request in sent] == expected
            long = replace(sent[0], sampling=SamplingParams(temperature=2.0, max_tokens=500))
            task = asyncio.create_task(collect(engine, long))
            while not engine.num_streams:
                await asyncio.sleep(0)
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            assert isinstance((await task)[-1], Failed)
            await settle(engine)
            assert await asyncio.gather(*(answer(engine, request) for request in sent)) == expected
        finally:
            await engine.close()

    asyncio.run(run())
