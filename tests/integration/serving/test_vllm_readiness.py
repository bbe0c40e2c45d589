"""When a vLLM counts as ready, lost or back, over a real HTTP server that plays it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import aclosing

import pytest

from tests.fake_vllm import GENERATE, FakeVllm, Play, fake_vllm
from tests.integration.serving.vllm_harness import PATIENCE_S, asked, events_of, run, until
from vlm_dlm.errors import UnavailableError
from vlm_dlm.events import Failed
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.vllm.client import STOPPED
from vlm_dlm.serving.vllm.engine import VllmEngine


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint()


@pytest.fixture
def vllm(checkpoint: Checkpoint) -> Generator[FakeVllm]:
    with fake_vllm(checkpoint.processor.tokenizer) as server:
        yield server


def test_a_vllm_that_falls_silent_is_lost_and_comes_back(
    vllm: FakeVllm, checkpoint: Checkpoint
) -> None:
    play = Play(token_ids=(1300,) * 50, hang_after=2)
    lost: list[bool] = []

    async def test(engine: VllmEngine) -> None:
        engine.on_lost(lambda: lost.append(True))
        stream = engine.generate(asked())
        async with aclosing(stream):
            events = [await anext(stream) for _ in range(3)]
            vllm.play.is_mute = True
            events += [event async for event in stream]
        assert isinstance(events[-1], Failed)
        assert (events[-1].message, len(events), lost) == (STOPPED, 4, [True])
        assert engine.state.phase is Phase.LOADING
        assert engine.state.reason == "vLLM does not answer"
        with pytest.raises(UnavailableError, match="does not answer"):
            await events_of(engine, asked())
        vllm.play = Play()
        await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)
        assert engine.state.reason == ""

    run(vllm, checkpoint, test, play)


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (Play(statuses={"/health": (503, "")}), "answers with 503"),
        (Play(statuses={"/v1/models": (401, "")}), "wants another key; set VLM_DLM_VLLM_API_KEY"),
        (Play(statuses={"/v1/models": (200, "[]")}), "what answers is not vLLM"),
        (Play(shift=1), "serves another model: its tokenizer gives other ids"),
        (Play(statuses={GENERATE: (403, "")}), "must be started with --enable-scale-out"),
        (Play(statuses={GENERATE: (404, "")}), f"has no {GENERATE}: this version"),
        (Play(break_after=1), "vLLM cannot answer"),
        (Play(raw=("[DONE]",)), "vLLM cannot answer"),
        (Play(is_mute=True), "does not answer"),
    ],
)
def test_one_that_cannot_stand_in_says_why_and_is_waited_for(
    vllm: FakeVllm, checkpoint: Checkpoint, play: Play, reason: str
) -> None:
    vllm.play = play

    async def test(engine: VllmEngine) -> None:
        await until(lambda: reason in engine.state.reason)
        assert engine.state.phase in (Phase.LOADING, Phase.WARMING)
        vllm.play.is_mute = False
        vllm.play = Play()
        await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)

    run(vllm, checkpoint, test, is_ready=False)


def test_it_is_tried_with_a_picture_before_it_is_ready(
    vllm: FakeVllm, checkpoint: Checkpoint
) -> None:
    async def test(engine: VllmEngine) -> None:
        body = vllm.bodies[-1]
        assert len(body["content_parts"]) == 1
        assert body["sampling_params"]["max_tokens"] == 4

    run(vllm, checkpoint, test)


def test_closing_ends_open_streams(vllm: FakeVllm, checkpoint: Checkpoint) -> None:
    play = Play(hang_after=1)

    async def test(engine: VllmEngine) -> None:
        stream = engine.generate(asked())
        async with aclosing(stream):
            events = [await anext(stream) for _ in range(2)]
            closing = asyncio.create_task(engine.close())
            events += [event async for event in stream]
            await closing
        assert isinstance(events[-1], Failed)

    run(vllm, checkpoint, test, play)
