"""Whole answers through OpenAI's own client."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.api.conftest import WORDS
from tests.api.serving import (
    LiveServer,
    PlayedEngine,
    data_uri,
    image_part,
    live_server,
    png,
    until,
)
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.errors import ImageTooLargeError
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.answering.image_sources import image_contents
from vlm_dlm_app.main import build_services
from vlm_dlm_app.media.fetcher import Fetcher
from vlm_dlm_app.settings.model import Settings

ANSWER = "".join(WORDS)
QUESTION: list[Any] = [{"role": "user", "content": "What is this?"}]


def ask(client: openai.OpenAI, messages: list[Any] | None = None, **options: Any) -> Any:
    values = {"model": "vlm-dlm", "messages": messages or QUESTION, **options}
    return client.chat.completions.create(**values)


def test_text_alone(client: openai.OpenAI, server: LiveServer) -> None:
    reply = ask(client)
    choice = reply.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", ANSWER)
    assert (choice.finish_reason, choice.index, choice.logprobs) == ("stop", 0, None)
    assert (reply.object, reply.model, len(reply.choices)) == ("chat.completion", "vlm-dlm", 1)
    assert reply.id.startswith("chatcmpl-")
    assert reply.system_fingerprint
    prompt = server.engine.requests[0].prompt
    assert reply.usage.prompt_tokens == len(prompt.token_ids)
    assert reply.usage.completion_tokens == len(WORDS)
    assert reply.usage.total_tokens == len(prompt.token_ids) + len(WORDS)


def test_an_image_and_its_tokens(client: openai.OpenAI, server: LiveServer) -> None:
    text = {"type": "text", "text": "What is this?"}
    reply = ask(client, [{"role": "user", "content": [text, image_part(png(56, 42))]}])
    assert reply.choices[0].message.content == ANSWER
    (image,) = server.engine.requests[0].prompt.images
    assert tuple(image.pixels.shape) == (3, 56, 56)  # sides are multiples of 28
    assert reply.usage.prompt_tokens_details.image_tokens == image.num_tokens > 0
    assert reply.metrics["mode"] == "linear_spec"
    assert reply.metrics["device"] == "cpu"


def test_bare_strings_and_details_name_images_too(
    client: openai.OpenAI, server: LiveServer
) -> None:
    url = data_uri(png())
    for image_url in (url, {"url": url}, {"url": url, "detail": "high"}):
        part = {"type": "image_url", "image_url": image_url}
        ask(client, [{"role": "user", "content": [part]}])
    prompts = {request.prompt.key for request in server.engine.requests}
    assert len(server.engine.requests) == 3
    assert len(prompts) == 1


def test_several_turns_and_images_in_order(client: openai.OpenAI, server: LiveServer) -> None:
    red, blue = png(56, 56, "red"), png(84, 56, "blue")
    ask(
        client,
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [image_part(red), {"type": "text", "text": "And this?"}]},
            {"role": "assistant", "content": "Red."},
            {"role": "user", "content": [{"type": "text", "text": "Then?"}, image_part(blue)]},
        ],
    )
    first, second = server.engine.requests[0].prompt.images
    assert tuple(first.pixels.shape) == (3, 56, 56)
    assert tuple(second.pixels.shape) == (3, 56, 84)
    tokenizer = server.services.checkpoint.processor.tokenizer
    text = tokenizer.decode(server.engine.requests[0].prompt.token_ids)
    assert text.index("Be brief.") < text.index("And this?") < text.index("Red.")
    assert text.index("Red.") < text.index("Then?")


def test_sampling_reaches_the_engine(client: openai.OpenAI, server: LiveServer) -> None:
    ask(client, temperature=0.5, top_p=0.9, seed=7, max_tokens=3, stop="!")
    ask(client, max_completion_tokens=2, stop=["a", "b"])
    ask(client, max_completion_tokens=4, max_tokens=4)
    first, second, third = (request.sampling for request in server.engine.requests)
    assert (first.temperature, first.top_p, first.seed) == (0.5, 0.9, 7)
    assert (first.max_tokens, first.stop) == (3, ("!",))
    assert (second.max_tokens, second.stop, second.temperature) == (2, ("a", "b"), 0.0)
    assert third.max_tokens == 4


def test_an_answer_cut_short_says_so(client: openai.OpenAI) -> None:
    reply = ask(client, max_tokens=2)
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "".join(WORDS[:2])


@pytest.mark.parametrize("mode", sorted(MODES))
def test_modes_are_models_and_fields(client: openai.OpenAI, server: LiveServer, mode: str) -> None:
    by_model = ask(client, model=f"vlm-dlm:{mode}")
    by_field = ask(client, extra_body={"generation_mode": mode})
    by_both = ask(client, model=f"vlm-dlm:{mode}", extra_body={"generation_mode": mode})
    assert [request.mode for request in server.engine.requests] == [mode] * 3
    assert by_model.model == f"vlm-dlm:{mode}"
    assert by_field.model == "vlm-dlm"
    assert {reply.metrics["mode"] for reply in (by_model, by_field, by_both)} == {mode}


def test_aliases_and_the_default(client: openai.OpenAI, server: LiveServer) -> None:
    for name in ("dlm", "linear_speculative", "auto"):
        ask(client, extra_body={"generation_mode": name})
    server.http.post(f"{server.url}/v1/chat/completions", json={"messages": QUESTION})
    modes = [request.mode for request in server.engine.requests]
    assert modes == ["diffusion", "linear_spec", "linear_spec", "linear_spec"]


@pytest.mark.parametrize("name", ["max_denoising_steps", "num_inference_steps", "steps"])
def test_options_of_a_mode(client: openai.OpenAI, server: LiveServer, name: str) -> None:
    body = {"threshold": 0.5, "block_length": 16, name: 4}
    ask(client, model="vlm-dlm:diffusion", extra_body=body)
    params = server.engine.requests[0].params
    assert (params.threshold, params.block_length, params.steps) == (0.5, 16, 4)


def test_several_answers_compute_their_prompt_once(
    client: openai.OpenAI, server: LiveServer
) -> None:
    reply = ask(client, n=3, seed=5, temperature=1.0)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert {choice.message.content for choice in reply.choices} == {ANSWER}
    assert [request.sampling.seed for request in server.engine.requests] == [5, 6, 7]
    assert [request.keep_prompt for request in server.engine.requests] == [True, False, False]
    assert len({request.request_id for request in server.engine.requests}) == 3
    assert reply.usage.completion_tokens == 3 * len(WORDS)
    assert reply.usage.prompt_tokens == len(server.engine.requests[0].prompt.token_ids)
    assert all(choice.metrics["mode"] == "linear_spec" for choice in reply.choices)


def test_priority_and_fields_without_effect(client: openai.OpenAI, server: LiveServer) -> None:
    reply = ask(
        client,
        user="someone",
        metadata={"a": "b"},
        store=False,
        logprobs=False,
        presence_penalty=0,
        tools=[],
        response_format={"type": "text"},
        extra_body={"priority": "batch", "deadline_s": 20, "top_k": -1, "unknown": None},
    )
    assert reply.choices[0].message.content == ANSWER


def test_what_every_reply_says_about_speed(client: openai.OpenAI) -> None:
    reply = ask(client)
    assert set(reply.timings) == {
        *("cache_n", "prompt_n", "prompt_ms", "prompt_per_second"),
        *("predicted_n", "predicted_ms", "predicted_per_second", "draft_n", "draft_n_accepted"),
    }
    assert reply.timings["predicted_n"] == len(WORDS)
    assert {
        *("time_to_first_token_ms", "generation_time_ms", "queue_time_ms", "mean_itl_ms"),
        *("tokens_per_second", "num_forwards", "tokens_per_forward", "speculative_decoding"),
        *("diffusion", "vision_time_ms", "prefill_time_ms", "decode_time_ms", "dtype"),
    } <= set(reply.metrics)


def test_a_key_gives_one_answer_for_two_requests(client: openai.OpenAI, server: LiveServer) -> None:
    headers = {"Idempotency-Key": "test-chat-whole"}
    first, second = (ask(client, extra_headers=headers) for _ in range(2))
    assert first.id == second.id
    assert len(server.engine.requests) == 1


def test_an_empty_answer(client: openai.OpenAI, server: LiveServer) -> None:
    server.engine.play(Script(()))
    reply = ask(client)
    assert reply.choices[0].message.content == ""
    assert reply.usage.completion_tokens == 0


def test_images_are_fetched_where_that_is_switched_on(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def fetch(_: Fetcher, url: str, __: float) -> bytes:
        asked.append(url)
        return png(84, 56)

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with live_server(checkpoint, Settings(allow_image_urls=True)) as server:
        with server.client() as client:
            ask(client, [{"role": "user", "content": [part, image_part(png(56, 56))]}])
        first, second = server.engine.requests[0].prompt.images
    assert asked == ["https://example.org/a.png"]
    assert tuple(first.pixels.shape) == (3, 56, 84)
    assert tuple(second.pixels.shape) == (3, 56, 56)


def test_images_of_few_requests_are_fetched_at_once(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client has half of the places, and keeps one until its picture is decoded."""
    num_fetching, is_over = 0, False

    async def fetch(_: Fetcher, __: str, ___: float) -> bytes:
        nonlocal num_fetching
        num_fetching += 1
        while not is_over:
            await asyncio.sleep(0.01)
        return png()

    monkeypatch.setattr(Fetcher, "fetch", fetch)
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    messages = [{"role": "user", "content": [part]}]
    with (
        live_server(checkpoint, Settings(allow_image_urls=True)) as server,
        server.client() as client,
        ThreadPoolExecutor(4) as threads,
    ):
        fetcher = server.services.fetcher
        assert fetcher is not None
        num_own = fetcher.policy.max_concurrent // 2
        others = [threads.submit(ask, client, messages) for _ in range(num_own)]
        until(lambda: num_fetching == num_own)
        with pytest.raises(openai.RateLimitError, match="this client"):
            ask(client, messages)
        is_over = True
        for other in others:
            other.result()
        ask(client, messages)


def test_all_images_together_have_a_limit(checkpoint: Checkpoint) -> None:
    """Fetched ones are not part of the body, whose limit does not hold for them."""

    async def run() -> None:
        settings = Settings(max_body_bytes=100)
        services = build_services(settings, PlayedEngine(), checkpoint)
        assert await image_contents(services, [b"a" * 60, b"b" * 40]) == [b"a" * 60, b"b" * 40]
        with pytest.raises(ImageTooLargeError, match="100"):
            await image_contents(services, [b"a" * 60, b"b" * 41])

    asyncio.run(run())
