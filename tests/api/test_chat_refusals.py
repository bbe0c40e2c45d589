"""What is refused, with which status, and that OpenAI's client raises its own classes for it."""

from __future__ import annotations

import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.api.serving import LiveServer, data_uri, image_part, live_server, png, until
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm_app.settings.model import Settings

QUESTION: list[Any] = [{"role": "user", "content": "What is this?"}]


HEADERS = {"Content-Type": "application/json"}


def post(server: LiveServer, **fields: Any) -> httpx.Response:
    body = json.dumps({"messages": QUESTION} | fields)
    return server.http.post(f"{server.url}/v1/chat/completions", content=body, headers=HEADERS)


def user(*parts: Any) -> list[Any]:
    return [{"role": "user", "content": list(parts)}]


TEXT = {"type": "text", "text": "Hi"}
# fields -> status, code, param, a part of the message
REFUSED: dict[str, tuple[dict[str, Any], int, str, str | None, str]] = {
    "model": ({"model": "gpt-4"}, 404, "model_not_found", "model", "vlm-dlm"),
    "mode of a model": ({"model": "vlm-dlm:fast"}, 404, "model_not_found", "model", "fast"),
    "empty mode of a model": ({"model": "vlm-dlm:"}, 404, "model_not_found", "model", ""),
    "mode": ({"generation_mode": "fast"}, 400, "bad_mode", None, "ar, diffusion"),
    "contradiction": (
        {"model": "vlm-dlm:ar", "generation_mode": "diffusion"},
        *(400, "bad_mode", "generation_mode", "ar"),
    ),
    "option the mode lacks": (
        {"generation_mode": "ar", "threshold": 0.5},
        *(400, "bad_mode", None, "threshold"),
    ),
    "two limits": (
        {"max_tokens": 3, "max_completion_tokens": 4},
        *(400, "bad_input", "max_completion_tokens", "max_tokens"),
    ),
    "too many tokens": ({"max_tokens": 9999}, 400, "over_limit", "max_tokens", "4096"),
    "beyond the context": (
        {"max_tokens": 4096},
        *(400, "context_length_exceeded", "messages", "4096"),
    ),
    "n": ({"n": 5}, 400, "over_limit", "n", "4"),
    "five stops": ({"stop": list("abcde")}, 400, "over_limit", "stop", "4"),
    "long stop": ({"stop": "a" * 65}, 400, "over_limit", "stop", "64"),
    "logprobs": ({"top_logprobs": 3}, 400, "bad_input", "top_logprobs", "needs logprobs"),
    "too many logprobs": (
        {"logprobs": True, "top_logprobs": 21},
        *(400, "invalid_value", "top_logprobs", "20"),
    ),
    "format": (
        {"response_format": {"type": "strange"}},
        *(400, "invalid_value", "response_format.type", "json_schema"),
    ),
    "a schema without one": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        *(400, "invalid_value", "response_format.json_schema", "schema"),
    ),
    "a regular expression that is none": (
        {"structured_outputs": {"regex": "("}},
        *(400, "bad_structure", None, "cannot be used"),
    ),
    "two forms": (
        {"guided_regex": "a", "structured_outputs": {"choice": ["b"]}},
        *(400, "bad_input", "guided_regex", "structured_outputs.choice"),
    ),
    "no choices": ({"guided_choice": [7]}, 400, "bad_structure", "guided_choice", "list of texts"),
    "penalty": ({"presence_penalty": 2.5}, 400, "invalid_value", "presence_penalty", "at most 2"),
    "repetition": (
        {"repetition_penalty": 0},
        *(400, "invalid_value", "repetition_penalty", "at least 0.01"),
    ),
    "logit_bias": ({"logit_bias": {"5": 101}}, 400, "invalid_value", "logit_bias.5", "100"),
    "logit_bias of no token": (
        {"logit_bias": {"99999": 1}},
        *(400, "bad_input", "logit_bias", "ids are 0 to"),
    ),
    "logit_bias of a word": (
        {"logit_bias": {"x": 1}},
        400,
        "invalid_value",
        "logit_bias.x.[key]",
        "",
    ),
    "bad words": ({"bad_words": [""]}, 400, "invalid_value", "bad_words.0", "empty"),
    "template": ({"chat_template": "x"}, 400, "unsupported_field", "chat_template", ""),
    "typing error": ({"temprature": 1}, 400, "unsupported_field", "temprature", "temprature"),
    "audio": (
        {"messages": user({"type": "input_audio", "input_audio": {"data": ""}})},
        *(400, "unsupported_content", "messages.0.content.0.type", "text and pictures"),
    ),
    "video": (
        {"messages": user(TEXT, {"type": "video_url", "video_url": {"url": "x"}})},
        *(400, "unsupported_content", "messages.0.content.1.type", "image_url"),
    ),
    "part without text": (
        {"messages": user({"type": "text"})},
        *(400, "bad_input", "messages.0.content.0", "text"),
    ),
    "part of two kinds": (
        {"messages": user({**TEXT, "image_url": data_uri(png())})},
        *(400, "bad_input", "messages.0.content.0", "as another part"),
    ),
    "image with text": (
        {"messages": user(TEXT, {**image_part(), "text": "Hi"})},
        *(400, "bad_input", "messages.0.content.1", "as another part"),
    ),
    "unknown field of an image": (
        {
            "messages": user(
                {"type": "image_url", "image_url": {"url": data_uri(png()), "max_pixels": 1}}
            )
        },
        *(400, "unsupported_field", "messages.0.content.0.image_url.max_pixels", "own size"),
    ),
    "no content": ({"messages": [{"role": "user"}]}, 400, "bad_input", "messages.0.content", ""),
    "image by URL": (
        {"messages": user({"type": "image_url", "image_url": "https://example.org/a.png"})},
        *(400, "image_urls_off", "image_url", "data URI"),
    ),
    "image by path": (
        {"messages": user({"type": "image_url", "image_url": "file:///etc/passwd"})},
        *(400, "bad_image", None, "data URI"),
    ),
    "image of text": (
        {"messages": user({"type": "image_url", "image_url": data_uri(b"hello")})},
        *(415, "unsupported_image", None, ""),
    ),
    "image that is cut": (
        {"messages": user({"type": "image_url", "image_url": data_uri(png()[:60])})},
        *(400, "bad_image", None, ""),
    ),
    "nine images": ({"messages": user(*[image_part()] * 9)}, 400, "bad_image", None, "8"),
    "image of the model": (
        {"messages": [{"role": "assistant", "content": [image_part()]}, *QUESTION]},
        *(400, "bad_prompt", None, "assistant"),
    ),
    "65 messages": ({"messages": QUESTION * 65}, 400, "bad_prompt", None, "64"),
    "long text": (
        {"messages": [{"role": "user", "content": "a" * 32_001}]},
        *(400, "bad_prompt", None, "32000"),
    ),
}
# Wrong types and ranges: param names the field.
INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": []}, "messages"),
    "messages of text": ({"messages": "hello"}, "messages"),
    "content of number": ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    "temperature": ({"temperature": 2.1}, "temperature"),
    "temperature below": ({"temperature": -0.1}, "temperature"),
    "temperature of truth": ({"temperature": True}, "temperature"),
    "temperature of text": ({"temperature": "1"}, "temperature"),
    "top_p": ({"top_p": 0}, "top_p"),
    "max_tokens": ({"max_tokens": 0}, "max_tokens"),
    "max_tokens of truth": ({"max_tokens": True}, "max_tokens"),
    "max_tokens huge": ({"max_tokens": 10**30}, "max_tokens"),
    "max_tokens broken": ({"max_tokens": 1.5}, "max_tokens"),
    "seed huge": ({"seed": 2**64}, "seed"),
    "seed of text": ({"seed": "1"}, "seed"),
    "stop of numbers": ({"stop": [1]}, "stop.0"),
    "stop of number": ({"stop": 1}, "stop"),
    "stream": ({"stream": "yes"}, "stream"),
    "stream of number": ({"stream": 1}, "stream"),
    "n": ({"n": 0}, "n"),
    "threshold": ({"threshold": 1.5}, "threshold"),
    "block_length": ({"block_length": 0}, "block_length"),
    "priority": ({"priority": "urgent"}, "priority"),
    "deadline": ({"deadline_s": 0}, "deadline_s"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_each_refusal_is_its_own(server: LiveServer, name: str, is_stream: bool) -> None:
    fields, status, code, param, part = REFUSED[name]
    reply = post(server, **fields, **({"stream": True} if is_stream else {}))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    assert part in error["message"]
    assert server.engine.requests == []


@pytest.mark.parametrize("name", INVALID)
def test_wrong_types_and_ranges(server: LiveServer, name: str) -> None:
    fields, param = INVALID[name]
    reply = post(server, **fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_the_cap_on_steps_is_given_once(server: LiveServer) -> None:
    diffusion = {"generation_mode": "diffusion"}
    reply = post(server, **diffusion, steps=4, max_denoising_steps=4)
    assert reply.status_code == 400
    message = reply.json()["error"]["message"]
    assert message.startswith("the body has max_denoising_steps and steps, which are the same")
    assert post(server, **diffusion, steps=4, max_denoising_steps=None).status_code == 200
    assert server.engine.requests[-1].params.steps == 4


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"\\ud800"'])
def test_numbers_and_characters_that_json_does_not_have(server: LiveServer, value: str) -> None:
    body = json.dumps({"messages": QUESTION, "temperature": 0.5}).replace("0.5", value)
    reply = server.http.post(f"{server.url}/v1/chat/completions", content=body, headers=HEADERS)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "invalid_json"


def test_a_number_too_large_for_any_is_out_of_range(server: LiveServer) -> None:
    body = json.dumps({"messages": QUESTION, "temperature": 0.5}).replace("0.5", "1e999")
    reply = server.http.post(f"{server.url}/v1/chat/completions", content=body, headers=HEADERS)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "temperature"


@pytest.mark.parametrize("media_type", ["text/plain", "multipart/form-data; boundary=x", None])
def test_only_json_is_read(server: LiveServer, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    body = json.dumps({"messages": QUESTION}).encode()
    url = f"{server.url}/v1/chat/completions"
    assert server.http.post(url, content=body, headers=headers).status_code == 415
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert server.http.post(url, content=body, headers=headers).status_code == 200
    broken = server.http.post(url, content=body[:-1], headers=headers)
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")


def test_the_client_raises_its_own_classes(client: openai.OpenAI) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="gpt-4", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="cannot be honoured"):
        create(model="vlm-dlm", messages=QUESTION, audio={"voice": "x", "format": "wav"})
    with pytest.raises(openai.BadRequestError, match="at most 2"):
        create(model="vlm-dlm", messages=QUESTION, temperature=3)
    with pytest.raises(openai.NotFoundError):
        create(model="gpt-4", messages=QUESTION, stream=True)


def test_an_engine_that_is_not_ready_answers_503_before_any_work(server: LiveServer) -> None:
    image = {"type": "image_url", "image_url": data_uri(b"not looked at")}
    server.engine.set_phase(Phase.LOADING)
    try:
        reply = post(server, messages=user(image))
    finally:
        server.engine.set_phase(Phase.READY)
    assert reply.status_code == 503
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.json()["error"]["code"] == "unavailable"


@pytest.fixture(scope="module")
def narrow(checkpoint: Checkpoint) -> Generator[LiveServer]:
    """One request runs and two wait, one of each client."""
    script = Script(("a", "b", "c", "d"), step_s=0.25, max_running=1)
    with live_server(checkpoint, Settings(max_waiting=1), script) as running:
        yield running
        until(lambda: running.is_idle)


def test_a_full_queue_is_429_at_once_and_is_tried_again(narrow: LiveServer) -> None:
    service = narrow.services.service
    with ThreadPoolExecutor(3) as threads, narrow.client() as client:
        threads.submit(post, narrow)
        until(lambda: service.num_running == 1)
        threads.submit(post, narrow)
        until(lambda: service.num_waiting == 1)
        bad = {"type": "image_url", "image_url": data_uri(b"not looked at")}
        for is_stream in (False, True):
            reply = post(narrow, messages=user(bad), stream=is_stream)
            assert reply.status_code == 429
            assert int(reply.headers["Retry-After"]) >= 1
        with pytest.raises(openai.RateLimitError) as refusal:
            client.chat.completions.create(model="vlm-dlm", messages=QUESTION)
        assert refusal.value.code == "queue_full"
        patient = client.with_options(max_retries=5)
        reply = patient.chat.completions.create(model="vlm-dlm", messages=QUESTION)
        assert reply.choices[0].message.content == "abcd"


def test_a_deadline_ends_a_request_that_waits(narrow: LiveServer) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(post, narrow)
        until(lambda: narrow.services.service.num_running == 1)
        reply = post(narrow, deadline_s=0.05)
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "deadline_exceeded")
    assert "Retry-After" not in reply.headers


def test_the_sdk_does_not_send_again_what_its_own_deadline_ended(narrow: LiveServer) -> None:
    with ThreadPoolExecutor(1) as threads, narrow.client(max_retries=3) as client:
        threads.submit(post, narrow)
        until(lambda: narrow.services.service.num_running == 1)
        with pytest.raises(openai.APIStatusError) as late:
            client.chat.completions.create(
                model="vlm-dlm", messages=QUESTION, extra_body={"deadline_s": 0.05}
            )
        assert late.value.code == "deadline_exceeded"
        assert late.value.request.headers["x-stainless-retry-count"] == "0"
