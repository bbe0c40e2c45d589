"""POST /v1/generate: forms and JSON, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.api.modes import ScriptedModes, Server, running
from tests.api.serving import data_uri, png
from vlm_dlm.decoding.block_diffusion import BlockDiffusionParams
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.serving.queue.fair_queue import Priority
from vlm_dlm_app.settings.model import Settings

PATH = "/v1/generate"
ASK: dict[str, Any] = {"prompt": "What is this?"}
TEXT = "There is one object."
SLOW = Script(tuple("abcdefghij"), step_s=0.1)


async def post_form(server: Server, files: list[Any] | None = None, **data: Any) -> httpx.Response:
    return await server.http.post(PATH, data=data, files=files or [("image", ("x", png()))])


def test_a_form_and_json_give_the_same_answer() -> None:
    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            files = [("image", ("../../x\u202e", png())), ("image", ("y", png(70, 42, "blue")))]
            options = {"max_tokens": 3, "steps": 4}
            form = await post_form(
                server, files, **ASK, system="Be brief.", mode="dlm", options=json.dumps(options)
            )
            body = {
                **ASK,
                "system": "Be brief.",
                "mode": "diffusion",
                "images": [data_uri(png()), data_uri(png(70, 42, "blue"))],
                "options": {"max_tokens": 3, "max_denoising_steps": 4},
            }
            whole = await server.answer(PATH, body)
        assert form.status_code == 200, form.text
        first, second = engine.requests
        assert first.prompt.key == second.prompt.key
        assert len(first.prompt.images) == 2
        assert (first.mode, first.params) == ("diffusion", BlockDiffusionParams(steps=4))
        assert (second.params, second.sampling) == (first.params, first.sampling)
        for reply in (form.json(), whole):
            assert (reply["text"], reply["finish_reason"]) == ("There is one ", "length")
            assert (reply["mode"], reply["model"]) == ("diffusion", "vlm-dlm:diffusion")
            assert reply["usage"]["completion_tokens"] == 3
            assert reply["usage"]["prompt_tokens_details"]["image_tokens"] > 0
            assert reply["timings"]["predicted_n"] == 3
            assert reply["metrics"]["mode"] == "diffusion"

    asyncio.run(run())


def test_text_alone_is_enough_and_the_mode_is_linear_speculation() -> None:
    async def run() -> None:
        async with running(ScriptedModes()) as server:
            reply = await server.answer(PATH, ASK)
        assert (reply["text"], reply["mode"]) == (TEXT, "linear_spec")
        assert (reply["object"], reply["finish_reason"]) == ("generation", "stop")

    asyncio.run(run())


def test_a_stream_joins_to_the_whole_answer_and_shows_drafts_on_request_only() -> None:
    async def run() -> None:
        async with running(ScriptedModes(Script(has_canvas=True))) as server:
            plain = await server.events(PATH, ASK)
            full = await server.events(PATH, {**ASK, "options": {"include_drafts": True}})
            form = await post_form(server, **ASK, stream="true")
            assert form.headers["content-type"].startswith("text/event-stream")
        kinds = [kind for kind, _ in plain]
        assert kinds == ["started", *["text"] * 4, "result"]
        assert plain[0][1]["id"] == plain[-1][1]["id"]
        assert "".join(data["text"] for kind, data in plain if kind == "text") == TEXT
        assert plain[-1][1]["text"] == TEXT
        drafts = [data for kind, data in full if kind == "draft"]
        assert [draft["num_forwards"] for draft in drafts] == [1, 2, 3, 4]
        assert all(len(draft["tokens"]) == 4 for draft in drafts)
        assert [event for event in full if event[0] == "text"] == plain[1:-1]

    asyncio.run(run())


def test_options_reach_the_engine() -> None:
    options = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["one"],
        "priority": "batch",
        "deadline_s": 20,
        "enable_thinking": True,
        "max_thinking_tokens": 5,
    }

    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            seen: list[Any] = []
            generate = server.service.generate

            def spy(ticket: Any) -> Any:
                seen.append(ticket)
                return generate(ticket)

            server.service.generate = spy  # type: ignore[method-assign]
            await server.answer(PATH, {**ASK, "options": options})
        sampling = engine.requests[0].sampling
        assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.9, 7)
        assert (sampling.stop, sampling.max_thinking_tokens) == (("one",), 5)
        assert seen[0].priority == Priority.BATCH
        assert 0 < seen[0].deadline_s <= 20  # what is left of it

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "prompt is required"),
        ({"prompt": ""}, 400, "prompt must not be empty"),
        ({"prompt": 5}, 400, "prompt must be text"),
        ({"prompt": ["x"]}, 400, "prompt must be text"),
        ({**ASK, "promt": "x"}, 400, "promt is not known here"),
        ({**ASK, "mode": "fast"}, 400, "unknown mode"),
        ({**ASK, "images": "x"}, 400, "images must be a list"),
        ({**ASK, "images": ["x"]}, 400, "data URI"),
        ({**ASK, "images": ["http://127.0.0.1/"]}, 400, "does not fetch images"),
        ({**ASK, "images": ["x"] * 9}, 400, "limit is 8"),
        ({**ASK, "stream": "true"}, 400, "stream must be true or false"),
        ({**ASK, "options": {"max_token": 3}}, 400, "options.max_token is not known here"),
        ({**ASK, "options": {"max_tokens": "3"}}, 400, "options.max_tokens must be a whole"),
        ({**ASK, "options": {"max_tokens": True}}, 400, "options.max_tokens must be a whole"),
        ({**ASK, "options": {"max_tokens": 0}}, 400, "options.max_tokens must be at least 1"),
        ({**ASK, "options": {"max_tokens": 10**6}}, 400, "the limit is 4096"),
        ({**ASK, "options": {"threshold": 1.5}}, 400, "options.threshold must be at most 1"),
        ({**ASK, "options": {"steps": 4, "max_denoising_steps": 4}}, 400, "which are the same"),
        ({**ASK, "mode": "ar", "options": {"threshold": 0.5}}, 400, "no option threshold"),
        ({**ASK, "options": {"max_thinking_tokens": 5}}, 400, "needs enable_thinking"),
        ({**ASK, "options": []}, 400, "options must be an object"),
        ({"prompt": "x" * 32001}, 400, "the limit is 32000"),
    ],
)
def test_what_cannot_be_honoured_is_refused(body: Any, status: int, says: str) -> None:
    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            error = await server.error(PATH, body, status)
        assert says in error["message"]
        assert engine.requests == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json", b"{", 400),
        ("application/json", b'{"prompt": NaN}', 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"null", 400),
        ("application/json; charset=utf-8", b"[]", 400),
        ("text/plain", b"{}", 415),
        ("", b"{}", 415),
        ("application/x-www-form-urlencoded", b"prompt=x", 415),
        ("multipart/mixed; boundary=b", b"--b--", 415),
    ],
)
def test_bodies_of_another_kind(content_type: str, content: bytes, status: int) -> None:
    async def run() -> None:
        async with running(ScriptedModes()) as server:
            headers = {"Content-Type": content_type}
            reply = await server.http.post(PATH, content=content, headers=headers)
        assert reply.status_code == status, reply.text
        assert reply.json()["error"]["message"]

    asyncio.run(run())


def test_a_failing_engine_is_500_or_an_error_event() -> None:
    async def run() -> None:
        async with running(ScriptedModes(Script(fail_after=2))) as server:
            error = await server.error(PATH, ASK, 500)
            events = await server.events(PATH, ASK)
        assert error["code"] == "engine_error"
        assert [kind for kind, _ in events] == ["started", "text", "text", ""]
        assert events[-1][1]["error"]["code"] == "engine_error"

    asyncio.run(run())


def test_the_same_idempotency_key_gives_the_same_reply_whatever_the_boundary() -> None:
    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine) as server:
            headers = {"Idempotency-Key": "k"}
            form = {"data": ASK, "files": {"image": png()}, "headers": headers}
            replies = [await server.http.post(PATH, **form) for _ in range(2)]  # new boundaries
            other = await server.http.post(PATH, json={"prompt": "Other"}, headers=headers)
        assert replies[0].text == replies[1].text
        assert (replies[1].status_code, other.status_code) == (200, 400)
        assert len(engine.requests) == 1

    asyncio.run(run())


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_client_who_leaves_ends_the_work(is_stream: bool) -> None:
    async def run() -> None:
        engine = ScriptedModes(SLOW)
        async with running(engine) as server:
            body = {**ASK, "stream": is_stream}
            await server.leave_when(lambda: engine.num_running == 1, PATH, body)
            assert (engine.num_running, engine.num_aborted) == (0, 1)
            assert server.service.num_running == 0

    asyncio.run(run())


def test_a_full_queue_is_429_before_any_work() -> None:
    async def run() -> None:
        engine = ScriptedModes(Script(tuple("abcdefghij"), step_s=0.05, max_running=1))
        async with running(engine, Settings(max_waiting=1)) as server:
            tasks = [asyncio.create_task(server.answer(PATH, ASK))]
            while server.service.num_running < 1:  # as many may be prepared at once as may wait
                await asyncio.sleep(0.002)
            tasks.append(asyncio.create_task(server.answer(PATH, ASK)))
            while server.service.num_waiting < 1:
                await asyncio.sleep(0.002)
            for is_stream in (False, True):
                reply = await server.post(PATH, {**ASK, "stream": is_stream})
                assert reply.status_code == 429
                assert int(reply.headers["retry-after"]) >= 1
            await asyncio.gather(*tasks)
        assert len(engine.requests) == 2

    asyncio.run(run())
