"""Engines that lack modes, and several engines behind one API."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.api.serving import LiveServer, PlayedEngine, data_uri, live_server, png, until
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.routed_engine import RoutedEngine

OTHERS = ("diffusion", "linear_spec", "quadratic_spec")
ASKED = {"prompt": "What is it?", "images": [data_uri(png())]}


@pytest.fixture(scope="module")
def lone(checkpoint: Checkpoint) -> Generator[LiveServer]:
    """A server whose engine has the mode `ar` alone."""
    with live_server(checkpoint, engine=PlayedEngine(modes=("ar",))) as running:
        yield running


@pytest.fixture
def parts() -> tuple[PlayedEngine, PlayedEngine]:
    """One for `ar`, one for the others."""
    fast, own = Script(("from ", "vllm")), Script(("from ", "our ", "own"))
    return PlayedEngine(fast, modes=("ar",)), PlayedEngine(own)


@pytest.fixture
def routed(
    checkpoint: Checkpoint, parts: tuple[PlayedEngine, PlayedEngine]
) -> Generator[LiveServer]:
    routes = {"ar": parts[0], **dict.fromkeys(OTHERS, parts[1])}
    with live_server(checkpoint, engine=RoutedEngine(routes)) as running:
        until(lambda: running.http.get(f"{running.url}/health").status_code == 200)
        yield running


def test_only_what_is_there_is_listed(lone: LiveServer) -> None:
    models = lone.http.get(f"{lone.url}/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["vlm-dlm", "vlm-dlm:ar"]
    assert [mode["name"] for mode in models[0]["vlm_dlm"]["modes"]] == ["ar"]


@pytest.mark.parametrize("mode", OTHERS)
def test_a_mode_that_is_not_there_is_refused_with_the_list(lone: LiveServer, mode: str) -> None:
    message = f"mode {mode} is not offered here; the modes are ar"
    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    replies = [
        lone.http.post(f"{lone.url}/v1/generate", json={**ASKED, "mode": mode}),
        lone.http.post(f"{lone.url}/v1/compare", json={**ASKED, "modes": ["ar", mode]}),
        lone.http.post(
            f"{lone.url}/v1/chat/completions", json={**chat, "model": f"vlm-dlm:{mode}"}
        ),
        lone.http.post(f"{lone.url}/v1/chat/completions", json={**chat, "generation_mode": mode}),
    ]
    for reply in replies:
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert (error["code"], error["message"]) == ("mode_not_offered", message)


def test_an_unknown_mode_is_told_the_modes_that_are_there(lone: LiveServer) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}]}
    asked = [
        ("generate", {**ASKED, "mode": "fast"}),
        ("compare", {**ASKED, "modes": ["ar", "fast"]}),
        ("compare", {**ASKED, "mode_options": {"fast": {}}}),
        ("chat/completions", {**chat, "generation_mode": "fast"}),
    ]
    for path, body in asked:
        reply = lone.http.post(f"{lone.url}/v1/{path}", json=body)
        assert reply.status_code == 400
        assert reply.json()["error"]["message"] == "unknown mode 'fast'; the modes are ar"


def test_who_does_not_choose_gets_what_is_there(lone: LiveServer) -> None:
    reply = lone.http.post(f"{lone.url}/v1/generate", json=ASKED).json()
    assert reply["metrics"]["mode"] == "ar"
    reply = lone.http.post(f"{lone.url}/v1/compare", json=ASKED).json()
    assert [result["mode"] for result in reply["results"]] == ["ar"]
    answer = lone.client().chat.completions.create(
        model="vlm-dlm", messages=[{"role": "user", "content": "Hello"}]
    )
    assert answer.choices[0].message.content


def test_every_mode_goes_to_its_engine(
    routed: LiveServer, parts: tuple[PlayedEngine, PlayedEngine]
) -> None:
    reply = routed.http.post(f"{routed.url}/v1/compare", json=ASKED).json()
    texts = {result["mode"]: result["text"] for result in reply["results"]}
    assert texts == {"ar": "from vllm", **dict.fromkeys(OTHERS, "from our own")}
    assert [request.mode for request in parts[0].requests] == ["ar"]
    assert [request.mode for request in parts[1].requests] == list(OTHERS)


def test_a_lost_engine_takes_its_own_modes_with_it_and_no_others(
    routed: LiveServer, parts: tuple[PlayedEngine, PlayedEngine]
) -> None:
    vllm, own = parts
    vllm.set_phase(Phase.LOADING, "vLLM does not answer")
    health = routed.http.get(f"{routed.url}/health/ready")
    assert (health.status_code, health.json()["reason"]) == (503, "vLLM does not answer")
    reply = routed.http.post(f"{routed.url}/v1/generate", json={**ASKED, "mode": "ar"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")
    assert "vLLM does not answer" in reply.json()["error"]["message"]
    assert "Retry-After" in reply.headers
    assert routed.http.post(f"{routed.url}/v1/generate", json=ASKED).status_code == 200
    reply = routed.http.post(f"{routed.url}/v1/compare", json=ASKED)
    assert reply.status_code == 200
    results = {result["mode"]: result for result in reply.json()["results"]}
    assert results["ar"]["error"]["code"] == "unavailable"
    assert {results[mode]["text"] for mode in OTHERS} == {"from our own"}
    own.set_phase(Phase.LOADING)
    reply = routed.http.post(f"{routed.url}/v1/compare", json=ASKED)
    assert reply.status_code == 503
    vllm.set_phase(Phase.READY)
    own.set_phase(Phase.READY)
    assert routed.http.get(f"{routed.url}/health/ready").status_code == 200
