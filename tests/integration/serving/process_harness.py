"""Engine processes to start, to kill and to wait for.

Waits are long because a loaded machine starts processes slowly; none is slept out.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.events import Failed, Finished, GenerationEvent
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.launch import Launch
from vlm_dlm.serving.process.engine import ProcessEngine

START_S = 120.0
SLOW = Launch(engine="scripted", script=Script(words=("word ",) * 2000, step_s=0.02))
STUCK = Launch(engine="scripted", script=Script(step_s=600.0))
QUICK = Launch(engine="scripted")


def request(name: str = "r", max_tokens: int = 2000) -> GenerationRequest:
    sampling = SamplingParams(max_tokens=max_tokens)
    return GenerationRequest(name, PromptInput((1, 2, 3)), sampling=sampling)


async def collect(engine: ProcessEngine, wanted: GenerationRequest) -> list[GenerationEvent]:
    return [event async for event in engine.generate(wanted)]


def open_stream(
    engine: ProcessEngine, wanted: GenerationRequest
) -> AsyncGenerator[GenerationEvent, None]:
    return engine.generate(wanted)


@asynccontextmanager
async def ready(launch: Launch, **options: Any) -> AsyncIterator[ProcessEngine]:
    engine = ProcessEngine(launch, **options)
    await engine.start()
    try:
        await settle(engine)
        yield engine
    finally:
        await engine.close()


async def settle(engine: ProcessEngine) -> None:
    async with asyncio.timeout(START_S):
        await engine.wait_ready()


async def until(holds: Any) -> None:
    async with asyncio.timeout(START_S):
        while not holds():
            await asyncio.sleep(0.01)


def kill(engine: ProcessEngine, number: int = signal.SIGKILL) -> int:
    assert engine.pid is not None
    os.kill(engine.pid, number)
    return engine.pid


def is_alive(pid: int) -> bool:
    """Zombies, which nobody has to reap here, count as gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def num_ends(events: list[GenerationEvent]) -> int:
    return sum(isinstance(event, Failed | Finished) for event in events)
