"""Answers of vLLM as an engine, over a real HTTP server that plays vLLM with all its faults."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Generator
from contextlib import aclosing
from typing import cast

import numpy as np
import pytest
from PIL import Image

from tests.fake_vllm import END, GENERATE, FakeVllm, Play, chunk, fake_vllm
from tests.integration.serving.vllm_harness import PATIENCE_S, PROMPT, asked, events_of, run, until
from vlm_dlm.errors import EngineError, ModeError, PromptError, UnavailableError, VlmDlmError
from vlm_dlm.events import Committed, Failed, Finished, Started
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.processor.image import Grid
from vlm_dlm.request import GenerationRequest, ImageInput, PromptInput, SamplingParams
from vlm_dlm.serving.vllm.client import BUSY, REFUSED, STOPPED
from vlm_dlm.serving.vllm.engine import VllmEngine
from vlm_dlm.serving.vllm.messages import FAILED, UNREADABLE

WORDS = "There are three objects"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint()


@pytest.fixture
def vllm(checkpoint: Checkpoint) -> Generator[FakeVllm]:
    with fake_vllm(checkpoint.processor.tokenizer) as server:
        yield server


def test_an_answer(vllm: FakeVllm, checkpoint: Checkpoint) -> None:
    async def test(engine: VllmEngine) -> None:
        started, *committed, finished = await events_of(engine, asked())
        assert isinstance(started, Started)
        assert started.num_prompt_tokens == len(PROMPT.token_ids)
        tokens = [token for event in committed for token in cast(Committed, event).tokens]
        assert [token.id for token in tokens] == list(vllm.play.token_ids)
        assert [token.step for token in tokens] == [1, 2, 3, 4, 5]
        assert {(round(token.confidence, 6), token.margin) for token in tokens} == {(0.5, 0.5)}
        assert isinstance(finished, Finished)
        text = "".join(cast(Committed, event).text for event in committed) + finished.text
        assert text == checkpoint.processor.tokenizer.decode(vllm.play.token_ids[:-1])
        stats = finished.stats
        assert (finished.reason, stats.num_tokens, stats.tokens_per_forward) == ("stop", 5, 1.0)
        assert stats.forwards_by_kind == {"ar": 4}
        assert (stats.vision_s, stats.prefill_s, stats.num_prefill_forwards) == (None, None, None)
        assert (stats.num_cached, stats.prompt_s) == (16, None)
        assert stats.ttft_s is not None
        assert stats.ttft_s > 0
        assert vllm.keys == {"Bearer secret"}

    run(vllm, checkpoint, test)


def test_what_is_asked_of_vllm(vllm: FakeVllm, checkpoint: Checkpoint) -> None:
    """The prompt with one marker per image, the picture itself, and every sampling parameter."""
    picture = Image.fromarray(np.arange(56 * 84 * 3, dtype=np.uint8).reshape(56, 84, 3))
    image = checkpoint.processor.tokenizer.special.image
    assert image is not None
    grid = Grid(2, 3)
    row = (image.pad,) * 3
    ids = (10, image.start, *row, image.row_break, *row, image.end, 1500, 11)
    part = ImageInput(np.zeros((3, 56, 84), np.float32), "abc", grid.num_pads, picture)
    sampling = SamplingParams(temperature=0.7, top_p=0.9, seed=5, max_tokens=33)

    async def test(engine: VllmEngine) -> None:
        prompt = PromptInput(ids, (part,))
        await events_of(engine, GenerationRequest("one", prompt, "ar", sampling=sampling))
        body = vllm.bodies[-1]
        assert body["token_ids"] == [10, image.start, 1500, 11]
        wanted = body["sampling_params"]
        assert (wanted["temperature"], wanted["top_p"]) == (0.7, 0.9)
        assert (wanted["seed"], wanted["max_tokens"]) == (5, 33)
        assert END in wanted["stop_token_ids"]
        (sent,) = body["content_parts"]
        assert sent["uuid"] == "abc"
        data = base64.b64decode(sent["url"].partition(",")[2])
        assert Image.open(io.BytesIO(data)).tobytes() == picture.tobytes()

    run(vllm, checkpoint, test)


def test_a_length_limit_is_told(vllm: FakeVllm, checkpoint: Checkpoint) -> None:
    play = Play(token_ids=(1401, 1300), num_cached=None)

    async def test(engine: VllmEngine) -> None:
        finished = (await events_of(engine, asked(max_tokens=2)))[-1]
        assert isinstance(finished, Finished)
        assert (finished.reason, finished.stats.num_cached) == ("length", None)

    run(vllm, checkpoint, test, play)


def test_a_stop_string_ends_the_answer_and_vllms_work(
    vllm: FakeVllm, checkpoint: Checkpoint
) -> None:
    tokenizer = checkpoint.processor.tokenizer
    play = Play(token_ids=(*tokenizer.encode_text(WORDS), *[1300] * 500, END), step_s=0.01)

    async def test(engine: VllmEngine) -> None:
        *events, finished = await events_of(engine, asked(stop=("three",)))
        assert isinstance(finished, Finished)
        committed = [event for event in events if isinstance(event, Committed)]
        text = "".join(event.text for event in committed) + finished.text
        assert (text, finished.reason) == ("There are ", "stop")
        await until(lambda: vllm.num_left == 1)

    run(vllm, checkpoint, test, play)


def test_who_leaves_ends_vllms_work(vllm: FakeVllm, checkpoint: Checkpoint) -> None:
    play = Play(token_ids=(1300,) * 500, step_s=0.01)

    async def test(engine: VllmEngine) -> None:
        stream = engine.generate(asked())
        async with aclosing(stream):
            async for event in stream:
                if isinstance(event, Committed):
                    break
        await until(lambda: (vllm.num_left, vllm.num_open) == (1, 0))

    run(vllm, checkpoint, test, play)


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (Play(break_after=2), STOPPED),
        (Play(break_after=0), STOPPED),
        (Play(error_after=2), FAILED),
        (Play(raw=("[DONE]",)), STOPPED),
        (Play(raw=("no json",)), UNREADABLE),
        (Play(raw=('{"choices": 3}',)), UNREADABLE),
        (Play(raw=('{"choices": [{"token_ids": ["7"]}]}',)), UNREADABLE),
        (Play(raw=('{"choices": [{"token_ids": [7]}]}',)), UNREADABLE),
        (Play(raw=('{"choices": [{"token_ids": [], "finish_reason": "abort"}]}',)), FAILED),
        (Play(raw=("x" * 2_000_000,)), UNREADABLE),
    ],
)
def test_a_fault_in_mid_stream_is_one_last_event(
    vllm: FakeVllm, checkpoint: Checkpoint, play: Play, message: str
) -> None:
    async def test(engine: VllmEngine) -> None:
        first, *_, failed = await events_of(engine, asked())
        assert isinstance(first, Started)
        assert isinstance(failed, Failed)
        assert (failed.code, failed.message) == (EngineError.code, message)
        vllm.play = Play()
        await asyncio.wait_for(engine.wait_ready(), PATIENCE_S)
        assert isinstance((await events_of(engine, asked()))[-1], Finished)

    run(vllm, checkpoint, test, play)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, EngineError, REFUSED),
        (500, EngineError, REFUSED),
        (429, UnavailableError, BUSY),
        (503, UnavailableError, BUSY),
    ],
)
def test_a_refusal_comes_before_any_event_and_in_our_words(
    vllm: FakeVllm,
    checkpoint: Checkpoint,
    caplog: pytest.LogCaptureFixture,
    status: int,
    kind: type[VlmDlmError],
    message: str,
) -> None:
    async def test(engine: VllmEngine) -> None:
        vllm.play.statuses[GENERATE] = (status, '{"error": {"message": "its own words"}}')
        with pytest.raises(kind, match=message):
            await events_of(engine, asked())

    run(vllm, checkpoint, test)
    assert "its own words" in caplog.text


def test_what_vllm_cannot_do_is_refused(vllm: FakeVllm, checkpoint: Checkpoint) -> None:
    vllm.play = Play(max_model_len=20)

    async def test(engine: VllmEngine) -> None:
        with pytest.raises(ModeError, match="max_thinking_tokens"):
            await events_of(engine, asked(max_thinking_tokens=3, max_tokens=5))
        with pytest.raises(PromptError, match="maximum context length is 20 tokens"):
            await events_of(engine, asked(max_tokens=16))
        assert isinstance((await events_of(engine, asked(max_tokens=15)))[-1], Finished)

    run(vllm, checkpoint, test)


def test_the_fake_sends_what_vllm_sends() -> None:
    """Fields of a chunk as vLLM 0.32 was seen to send them; tests/vllm runs the real one."""
    (choice,) = chunk([7], "stop")["choices"]
    assert set(choice) == {"index", "token_ids", "finish_reason", "stop_reason", "logprobs"}
