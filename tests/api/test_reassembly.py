"""What a stream says in pieces is what the whole reply says at once, on every route."""

from __future__ import annotations

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.serving import LiveServer, data_uri, png
from tests.sse import Event, read_events
from vlm_dlm.engine.scripted_engine import Script

WORDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), max_size=10)
ASK = {"prompt": "What is this?", "images": [data_uri(png())]}
PARTS = [
    {"type": "image_url", "image_url": {"url": data_uri(png())}},
    {"type": "text", "text": "What is this?"},
]


def events_of(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Event]:
    reply = client.post(path, json={**body, "stream": True})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    return read_events(reply.content)


def whole_of(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def by_chat(client: httpx.Client) -> tuple[str, str]:
    body = {"messages": [{"role": "user", "content": PARTS}], "max_tokens": 64}
    *events, last = events_of(client, "/v1/chat/completions", body)
    assert last.data == "[DONE]"
    deltas = [json.loads(event.data)["choices"][0]["delta"] for event in events]
    whole = whole_of(client, "/v1/chat/completions", body)
    text = "".join(delta.get("content") or "" for delta in deltas)
    return text, whole["choices"][0]["message"]["content"]


def by_generate(client: httpx.Client) -> tuple[str, str]:
    events = events_of(client, "/v1/generate", ASK)
    texts = [json.loads(event.data)["text"] for event in events if event.kind == "text"]
    assert json.loads(events[-1].data)["text"] == "".join(texts)
    return "".join(texts), whole_of(client, "/v1/generate", ASK)["text"]


def by_compare(client: httpx.Client) -> tuple[dict[str, str], dict[str, str]]:
    texts: dict[str, str] = {}
    for event in events_of(client, "/v1/compare", ASK):
        if event.kind == "text":
            piece = json.loads(event.data)
            texts[piece["mode"]] = texts.get(piece["mode"], "") + piece["text"]
    results = whole_of(client, "/v1/compare", ASK)["results"]
    return texts, {result["mode"]: result["text"] for result in results if result["text"]}


@given(WORDS)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pieces_join_to_the_whole(server: LiveServer, words: list[str]) -> None:
    server.engine.play(Script(tuple(words)))
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        for streamed, whole in (by_chat(client), by_generate(client)):
            assert streamed == whole == "".join(words)
        streamed_by_mode, whole_by_mode = by_compare(client)
        assert streamed_by_mode == whole_by_mode
