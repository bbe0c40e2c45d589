"""Health, readiness, version and the list of models."""

from __future__ import annotations

import json
from collections.abc import Generator

import httpx
import openai
import pytest

from tests.api.serving import LiveServer, live_server
from vlm_dlm import __version__
from vlm_dlm.decoding import MODES
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm_app.http.auth import OPEN_PATHS

READY_PATHS = ("/health", "/health/ready", "/v1/health/ready")


@pytest.fixture
def http(server: LiveServer) -> Generator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", READY_PATHS)
def test_ready(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code == 200
    assert reply.json()["status"] == "ready"
    assert reply.json()["error"] is None


@pytest.mark.parametrize(
    ("phase", "retry_after_s"), [(Phase.LOADING, 2), (Phase.WARMING, 2), (Phase.DOWN, 60)]
)
@pytest.mark.parametrize("path", READY_PATHS)
def test_not_ready_says_why(
    server: LiveServer, http: httpx.Client, path: str, phase: Phase, retry_after_s: int
) -> None:
    server.engine.set_phase(phase, "the weights are heavy")
    try:
        reply, live = http.get(path), http.get("/health/live")
        asked = http.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]}
        )
    finally:
        server.engine.set_phase(Phase.READY)
    body = reply.json()
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == str(retry_after_s)
    assert (body["status"], body["reason"]) == (phase.value, "the weights are heavy")
    assert body["error"]["code"] == "unavailable"
    assert live.status_code == 200
    assert asked.status_code == 503
    assert asked.headers["retry-after"] == str(retry_after_s)


@pytest.mark.parametrize(
    "path", [*READY_PATHS, "/health/live", "/metrics", "/v1/models", "/version"]
)
def test_head_is_get_without_a_body(http: httpx.Client, path: str) -> None:
    head, whole = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    refused = http.head("/v1/chat/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/health/live", "/v1/health/live"])
def test_live(http: httpx.Client, path: str) -> None:
    assert http.get(path).json() == {"status": "live"}


def test_version(http: httpx.Client) -> None:
    assert http.get("/version").json() == {"version": __version__, "model": "vlm-dlm"}


def test_every_open_path_exists(http: httpx.Client) -> None:
    for path in OPEN_PATHS:
        assert http.get(path).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/health"), ("DELETE", "/v1/models")])
def test_other_methods_are_refused(http: httpx.Client, method: str, path: str) -> None:
    reply = http.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert reply.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/nope", "/v1", "/V1/Models", "/%2e%2e/health"])
def test_other_paths_are_not_found(http: httpx.Client, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "not_found"


def test_the_sdk_lists_every_mode_as_a_model(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == ["vlm-dlm", *(f"vlm-dlm:{mode}" for mode in MODES)]
    for id_ in ids:
        assert client.models.retrieve(id_).id == id_


@pytest.mark.parametrize("wrong", ["gpt-4", "vlm-dlm:", "vlm-dlm:fast", "VLM-DLM"])
def test_unknown_models_raise_the_sdks_own_error(client: openai.OpenAI, wrong: str) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve(wrong)
    assert error.value.code == "model_not_found"


def test_a_model_says_what_it_takes(http: httpx.Client, server: LiveServer) -> None:
    models = {model["id"]: model for model in http.get("/v1/models").json()["data"]}
    assert models["vlm-dlm"]["architecture"]["input_modalities"] == ["text", "image"]
    extra = models["vlm-dlm:diffusion"]["vlm_dlm"]
    assert extra["mode"] == "diffusion"
    (mode,) = extra["modes"]
    assert not mode["is_lossless"]
    assert mode["options"] == ["block_length", "threshold", "max_denoising_steps"]
    assert len(models["vlm-dlm"]["vlm_dlm"]["modes"]) == len(MODES)
    assert extra["limits"]["max_images"] == server.services.settings.max_images


def test_while_draining_nothing_new_is_taken(checkpoint: Checkpoint) -> None:
    with (
        live_server(checkpoint) as own,
        httpx.Client(base_url=own.url, timeout=30, trust_env=False) as http,
    ):
        own.services.lifecycle.close_door(20.0)
        ready = http.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        assert http.get("/health/live").status_code == 200
        reply = http.post("/v1/chat/completions", json={})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable")
        for told in (ready, reply):
            assert 5 < int(told.headers["retry-after"]) <= 20


def test_the_description_has_no_answer_that_is_never_given(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert '"422"' not in json.dumps(document)
    assert "HTTPValidationError" not in json.dumps(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["responses"], path
