"""`vlm-dlm serve --backend vllm` with the real vLLM: the same API, the same answers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.processes import Process
from tests.e2e.server import Server, eventually
from tests.e2e.workload import PROMPT, pictures
from tests.sse import Event, EventReader
from vlm_dlm.decoding import MODES

ASKED: dict[str, Any] = {"prompt": PROMPT, "options": {"max_tokens": 96}}
READY_S = 240.0


@pytest.fixture(scope="module")
def server(vllm_python: str) -> Generator[Server]:
    with Server(arguments=("--backend", "vllm"), vllm_python=vllm_python) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Generator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, timeout=120) as client:
        yield client


def test_compare_runs_ar_on_vllm_beside_our_own_modes(http: httpx.Client) -> None:
    for uri in pictures(6):
        reply = http.post("/v1/compare", json={**ASKED, "images": [uri]}).json()
        results = {result["mode"]: result for result in reply["results"]}
        assert list(results) == list(MODES)
        for name, mode in MODES.items():
            assert results[name]["error"] is None
            assert results[name]["agreement"]["is_identical"] or not mode.is_lossless
        metrics = results["ar"]["metrics"]
        assert (metrics["device"], metrics["dtype"]) == ("vLLM, cpu", "float32")
        assert (metrics["tokens_per_forward"], metrics["vision_time_ms"]) == (1.0, None)
        assert results["linear_spec"]["metrics"]["device"] == "cpu"
        assert reply["summary"]["vision_ms"] is not None


def test_openai_client(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0)
    content: Any = [
        {"type": "image_url", "image_url": {"url": pictures(1)[0]}},
        {"type": "text", "text": PROMPT},
    ]

    def answer(**more: Any) -> Any:
        messages: Any = [{"role": "user", "content": content}]
        return client.chat.completions.create(
            model="vlm-dlm:ar", messages=messages, max_tokens=64, **more
        )

    whole = answer().choices[0].message.content
    pieces = [c.choices[0].delta.content or "" for c in answer(stream=True) if c.choices]
    assert "".join(pieces) == whole
    word = whole.split()[5]
    assert answer(stop=[word]).choices[0].message.content == whole.partition(word)[0]
    warm = [answer(temperature=2.0, seed=k % 6).choices[0].message.content for k in range(12)]
    assert warm[:6] == warm[6:]
    assert len(set(warm)) > 1
    assert answer(temperature=2.0, seed=3, n=2).choices[1].message.content == warm[4]


def test_many_at_once_get_the_answers_of_one_alone(http: httpx.Client) -> None:
    def ask(uri: str) -> str:
        body = {**ASKED, "images": [uri], "mode": "ar"}
        reply = http.post("/v1/generate", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()["text"]

    uris = pictures(8)
    alone = [ask(uri) for uri in uris]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, uris)) == alone


def test_vllm_killed_in_mid_stream(server: Server, http: httpx.Client) -> None:
    """The stream ends with one error, the other modes go on, and vLLM comes back."""
    body = {**ASKED, "images": [pictures(1)[0]], "mode": "ar", "stream": True}
    reader, events = EventReader(), list[Event]()
    with http.stream("POST", "/v1/generate", json=body) as reply:
        for piece in reply.iter_bytes():
            events += reader.feed(piece)
            if sum(event.kind == "text" for event in events) >= 3:
                for process in _vllm(server):
                    os.kill(process.pid, signal.SIGKILL)
    *_, error, done = events
    assert json.loads(error.data)["error"]["code"] == "engine_error"
    assert done.data == "[DONE]"
    eventually(lambda: http.get("/health/ready").status_code == 503, 10)
    own = {**body, "mode": "linear_spec", "stream": False}
    assert http.post("/v1/generate", json=own).status_code == 200
    refused = http.post("/v1/generate", json={**body, "stream": False})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    eventually(lambda: http.get("/health/ready").status_code == 200, READY_S, 0.5)
    assert http.get("/health/ready").json()["num_restarts"] == 1
    assert http.post("/v1/generate", json={**body, "stream": False}).status_code == 200


def test_nothing_is_left_at_the_end(server: Server) -> None:
    server.processes()
    assert server.stop() == 0
    eventually(lambda: not server.orphans(), 15)


def _vllm(server: Server) -> list[Process]:
    return [process for process in server.processes() if "api_server" in process.command]
