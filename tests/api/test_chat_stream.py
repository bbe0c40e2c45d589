"""Streams: the same answer in pieces, and how they end."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import WORDS
from tests.api.serving import LiveServer, image_part
from vlm_dlm.engine.scripted_engine import Script

QUESTION: list[Any] = [{"role": "user", "content": "What is this?"}]


def raw_stream(server: LiveServer, **fields: Any) -> list[tuple[str | None, str]]:
    """(event, data) as they come, read without anybody's client."""
    body = {"messages": QUESTION, "stream": True, **fields}
    reply = server.http.post(f"{server.url}/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    events: list[tuple[str | None, str]] = []
    for block in reply.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if lines:
            events.append((lines.get("event"), lines["data"]))
    return events


def test_pieces_come_as_the_engine_commits_them(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": [image_part()]}]
    create = client.chat.completions.create
    chunks = list(create(model="vlm-dlm:ar", messages=messages, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert (deltas[0].role, deltas[0].content) == ("assistant", "")
    assert tuple(delta.content for delta in deltas[1:-1]) == WORDS
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"vlm-dlm:ar"}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(st.text(max_size=8), max_size=6), limit=st.integers(1, 6))
def test_pieces_joined_are_the_whole_answer(
    server: LiveServer, client: openai.OpenAI, words: list[str], limit: int
) -> None:
    server.engine.play(Script(tuple(words)))
    create = client.chat.completions.create
    whole = create(model="vlm-dlm", messages=QUESTION, max_tokens=limit)
    chunks = list(create(model="vlm-dlm", messages=QUESTION, max_tokens=limit, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content == "".join(words[:limit])
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_usage_comes_last_when_asked_for(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    options: Any = {"include_usage": True}
    chunks = list(create(model="vlm-dlm", messages=QUESTION, stream=True, stream_options=options))
    *others, last = chunks
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == len(WORDS)
    figures: Any = last
    assert figures.timings["predicted_n"] == len(WORDS)
    assert figures.metrics["mode"] == "linear_spec"
    assert all(chunk.usage is None and chunk.choices for chunk in others)
    plain = list(create(model="vlm-dlm", messages=QUESTION, stream=True))
    assert all(chunk.choices for chunk in plain)


def test_the_stream_ends_with_done(server: LiveServer) -> None:
    events = raw_stream(server)
    assert events[-1] == (None, "[DONE]")
    assert [data for _, data in events].count("[DONE]") == 1
    last = json.loads(events[-2][1])
    assert last["timings"]["predicted_n"] == len(WORDS)
    assert "usage" not in last


def test_drafts_are_events_of_their_own(server: LiveServer, client: openai.OpenAI) -> None:
    mask = server.services.checkpoint.processor.tokenizer.special.mask
    server.engine.play(Script(WORDS, has_canvas=True))
    assert {event for event, _ in raw_stream(server)} == {None}
    events = raw_stream(server, stream_options={"include_drafts": True})
    drafts = [json.loads(data) for event, data in events if event == "draft"]
    assert len(drafts) == len(WORDS)
    assert {draft["object"] for draft in drafts} == {"vlm_dlm.draft"}
    assert all(draft["choices"] == [] and len(draft["draft"]["tokens"]) == 4 for draft in drafts)
    assert mask > len(WORDS), "else the script shows masks"

    # OpenAI's client hands them on as chunks without choices, like the one with the usage
    options: Any = {"include_drafts": True}
    chunks = list(
        client.chat.completions.create(
            model="vlm-dlm", messages=QUESTION, stream=True, stream_options=options
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "".join(WORDS)


def test_several_answers_interleave_by_index(client: openai.OpenAI, server: LiveServer) -> None:
    server.engine.play(Script(WORDS, step_s=0.002))
    chunks = list(
        client.chat.completions.create(
            model="vlm-dlm", messages=QUESTION, stream=True, n=2, seed=2**63 - 1
        )
    )
    texts = ["", ""]
    for chunk in chunks:
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
    assert texts == ["".join(WORDS)] * 2
    indices = [chunk.choices[0].index for chunk in chunks]
    assert indices != sorted(indices), "they take turns"
    assert [request.sampling.seed for request in server.engine.requests] == [2**63 - 1, 0]


@pytest.mark.parametrize("num", [1, 2])
def test_an_error_in_mid_stream_is_an_event(
    server: LiveServer, client: openai.OpenAI, num: int
) -> None:
    server.engine.play(Script(WORDS, fail_after=2))
    seen = ""
    with pytest.raises(openai.APIError, match="script"):  # noqa: PT012
        for chunk in client.chat.completions.create(
            model="vlm-dlm", messages=QUESTION, stream=True, n=num
        ):
            seen += chunk.choices[0].delta.content or "" if not chunk.choices[0].index else ""
    assert seen == "".join(WORDS[:2])
    events = raw_stream(server, n=num)
    assert events[-1] == (None, "[DONE]")
    assert json.loads(events[-2][1])["error"]["type"] == "server_error"
    with pytest.raises(openai.InternalServerError, match="script"):
        client.chat.completions.create(model="vlm-dlm", messages=QUESTION, n=num)


def test_a_key_replays_a_stream(server: LiveServer, client: openai.OpenAI) -> None:
    headers = {"Idempotency-Key": "test-chat-stream"}

    def ids() -> list[tuple[str, str | None]]:
        stream = client.chat.completions.create(
            model="vlm-dlm", messages=QUESTION, stream=True, extra_headers=headers
        )
        return [(chunk.id, chunk.choices[0].delta.content) for chunk in stream]

    assert ids() == ids()
    assert len(server.engine.requests) == 1


def test_a_failed_stream_is_not_kept(server: LiveServer) -> None:
    url, body = f"{server.url}/v1/chat/completions", {"messages": QUESTION, "stream": True}
    headers = {"Idempotency-Key": "test-chat-failed-stream"}
    server.engine.play(Script(WORDS, fail_after=1))
    assert "error" in server.http.post(url, json=body, headers=headers).text
    server.engine.play(Script(WORDS))
    assert "error" not in server.http.post(url, json=body, headers=headers).text
