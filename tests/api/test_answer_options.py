"""How an answer is written, as clients of vLLM, SGLang and OpenAI ask for it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.serving import LiveServer
from vlm_dlm.answer_room import DEFAULT_MAX_TOKENS
from vlm_dlm.request import SamplingParams

QUESTION: list[Any] = [{"role": "user", "content": "What is this?"}]
OPTIONS: dict[str, Any] = {
    "top_k": 5,
    "min_p": 0.2,
    "min_tokens": 3,
    "ignore_eos": True,
    "stop_token_ids": [7, 9],
    "skip_special_tokens": False,
}


def chat(server: LiveServer, **fields: Any) -> httpx.Response:
    body = {"messages": QUESTION, **fields}
    return server.http.post(f"{server.url}/v1/chat/completions", json=body)


def generate(server: LiveServer, **options: Any) -> httpx.Response:
    body = {"prompt": "What is this?", "options": options}
    return server.http.post(f"{server.url}/v1/generate", json=body)


def compare(server: LiveServer, **options: Any) -> httpx.Response:
    body = {"prompt": "What is this?", "modes": ["ar", "diffusion"], "options": options}
    return server.http.post(f"{server.url}/v1/compare", json=body)


ROUTES = [chat, generate, compare]


def asked(server: LiveServer) -> SamplingParams:
    return server.engine.requests[-1].sampling


@pytest.mark.parametrize("ask", ROUTES)
def test_options_reach_the_engine(server: LiveServer, ask: Any) -> None:
    assert ask(server, max_tokens=8, **OPTIONS).status_code == 200
    found = asked(server)
    assert (found.top_k, found.min_p, found.min_tokens) == (5, 0.2, 3)
    assert found.ignore_eos
    assert found.stop_token_ids == (7, 9)
    assert not found.skip_special_tokens


@pytest.mark.parametrize("ask", ROUTES)
@pytest.mark.parametrize("top_k", [0, -1, None])
def test_their_neutral_values_change_nothing(
    server: LiveServer, ask: Any, top_k: int | None
) -> None:
    assert ask(server, max_tokens=8).status_code == 200
    plain = asked(server)
    neutral = {"top_k": top_k, "min_p": 0, "min_tokens": 0, "ignore_eos": False}
    reply = ask(server, max_tokens=8, stop_token_ids=[], skip_special_tokens=True, **neutral)
    assert reply.status_code == 200
    assert asked(server) == plain


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("top_k", -2, 400),
        ("min_p", 1.5, 400),
        ("min_tokens", -1, 400),
        ("ignore_eos", "yes", 400),
        ("stop_token_ids", [1] * 65, 400),
        ("stop_token_ids", [2**31 - 1], 400),
        ("min_tokens", 9, 400),  # above max_tokens
    ],
)
def test_values_out_of_range_are_refused_by_name(
    server: LiveServer, name: str, value: Any, status: int
) -> None:
    reply = chat(server, max_tokens=8, **{name: value})
    assert reply.status_code == status
    assert name in reply.json()["error"]["message"]


@pytest.mark.parametrize("ask", ROUTES)
def test_no_max_tokens_shrinks_to_what_fits(server: LiveServer, ask: Any) -> None:
    assert ask(server).status_code == 200
    assert asked(server).max_tokens == DEFAULT_MAX_TOKENS


def long_text(server: LiveServer, num_left: int) -> tuple[str, int]:
    """A text whose prompt leaves so many tokens of the context, and that context."""
    reply = server.http.get(f"{server.url}/v1/models").json()
    max_context = reply["data"][0]["vlm_dlm"]["limits"]["max_context"]
    used = chat(server, max_tokens=1).json()["usage"]["prompt_tokens"]
    words = "a" + " a" * (max_context - num_left - used)
    body = {"messages": [{"role": "user", "content": words}], "max_tokens": 1}
    reply = server.http.post(f"{server.url}/v1/chat/completions", json=body)
    found = reply.json()["usage"]["prompt_tokens"]
    words += " a" * (max_context - num_left - found)
    return words, max_context


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_long_prompt_is_answered_in_what_is_left(server: LiveServer, is_streamed: bool) -> None:
    text, max_context = long_text(server, 40)
    messages = [{"role": "user", "content": text}]
    assert chat(server, messages=messages, stream=is_streamed).status_code == 200
    assert asked(server).max_tokens == 40
    reply = chat(server, messages=messages, max_tokens=41, stream=is_streamed)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["param"] == "messages"
    assert f"maximum context length is {max_context} tokens" in error["message"]
    assert "41 in the completion" in error["message"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_prompt_too_long_is_told_as_openai_tells_it(
    server: LiveServer, is_streamed: bool
) -> None:
    text, max_context = long_text(server, 40)
    text += " a" * 60
    reply = chat(server, messages=[{"role": "user", "content": text}], stream=is_streamed)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "context_length_exceeded")
    assert (error["param"], error["type"]) == ("messages", "invalid_request_error")
    assert error["message"].startswith(
        f"This model's maximum context length is {max_context} tokens. However, your messages "
        "resulted in "
    )
    for address in ("/v1/generate", "/v1/compare"):
        body = {"prompt": text, "stream": is_streamed}
        error = server.http.post(f"{server.url}{address}", json=body).json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("is_asked", [True, False])
def test_every_chunk_has_the_usage_so_far(server: LiveServer, is_asked: bool) -> None:
    options = {"include_usage": True, "continuous_usage_stats": is_asked}
    reply = chat(server, stream=True, stream_options=options)
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    usages = [json.loads(line)["usage"] for line in lines]
    last = usages.pop()
    if not is_asked:
        assert set(map(str, usages)) == {"None"}
        return
    counts = [usage["completion_tokens"] for usage in usages]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, last["completion_tokens"])
    assert {usage["prompt_tokens"] for usage in usages} == {last["prompt_tokens"]}
    assert all(u["total_tokens"] == u["prompt_tokens"] + u["completion_tokens"] for u in usages)
