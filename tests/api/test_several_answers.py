"""Several answers to one request: all come, or none, and each is counted as what it is."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.api.modes import ScriptedModes, Server, running
from tests.api.test_metrics import Samples, parse, value
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.errors import ImageError
from vlm_dlm.events import Committed, GenerationEvent, Started
from vlm_dlm.processor.prompt import Message, TextPart
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.serving.queue.service import Ticket
from vlm_dlm_app.answering.chat_run import choices
from vlm_dlm_app.answering.intake import Ask
from vlm_dlm_app.settings.model import Settings

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is this?"}]}
WORDS = ("There ", "is ", "one ", "object.")


async def figures(server: Server) -> Samples:
    return parse((await server.http.get("/metrics")).text)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_an_accepted_request_is_never_refused_later(is_stream: bool) -> None:
    """Two of its four answers find the queue full once the first one is under way."""

    async def run() -> None:
        engine = ScriptedModes(Script(WORDS, step_s=0.005, max_running=1))
        async with running(engine, Settings(max_running=1, max_waiting=2)) as server:
            body = {**ASK, "n": 4, "temperature": 1, "stream": is_stream}
            reply = await server.post(CHAT, body)
            assert reply.status_code == 200, reply.text
            assert "error" not in reply.text
            assert value(await figures(server), "admission_rejections_total") == 0
        assert len(engine.requests) == 4

    asyncio.run(run())


def test_later_answers_carry_what_is_left_of_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    async def tracked(
        _services: object, ticket: Ticket, *_: object, **__: object
    ) -> AsyncGenerator[GenerationEvent, None]:
        assert ticket.deadline_s is not None
        left.append(ticket.deadline_s)
        yield Started("", "ar", 1, 0, 0.0)
        await asyncio.sleep(0.1)
        yield Committed("", (), "", 1, 0.0)

    monkeypatch.setattr("vlm_dlm_app.answering.chat_run.tracked", tracked)

    async def run() -> None:
        ask = Ask((Message("user", (TextPart("hi"),)),), deadline_s=5.0)
        request = GenerationRequest("", PromptInput((1,)), "ar", None)
        tickets = [Ticket(request, deadline_s=5.0)] * 2
        services: Any = None
        async for _ in choices(services, ask, tickets, ""):
            pass

    asyncio.run(run())
    assert left[0] <= 5.0
    assert left[1] <= 4.9


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_answers_that_fall_with_another_are_no_clients_who_left(
    is_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All of four fail, but the first failure ends the others."""
    caplog.set_level(logging.INFO)

    async def run() -> None:
        engine = ScriptedModes(Script(WORDS, step_s=0.01, fail_after=3))
        async with running(engine) as server:
            reply = await server.post(CHAT, {**ASK, "n": 3, "temperature": 1, "stream": is_stream})
            assert "engine_error" in reply.text
            assert value(await figures(server), "request_aborts_total") == 0

    asyncio.run(run())
    lines = [r.getMessage() for r in caplog.records if r.name == "vlm_dlm_app.answers"]
    causes = [line.split("cause=")[1].split()[0] for line in lines]
    assert causes == ["failed:engine_error", "dropped", "dropped"]


def test_a_stream_that_fails_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> None:
        async with running(ScriptedModes(Script(WORDS, fail_after=1))) as server:
            reply = await server.post(CHAT, {**ASK, "stream": True})
            assert reply.status_code == 200

    asyncio.run(run())
    (line,) = [r.getMessage() for r in caplog.records if r.name == "vlm_dlm_app.requests"]
    assert "status=200 cause=engine_error" in line


@pytest.mark.parametrize("path", [CHAT, "/v1/generate", "/v1/compare"])
def test_preparing_counts_into_the_time_from_arrival(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is refused while it is prepared, however late, is a status and no event."""
    is_good = True

    async def slowly(*_: object, **__: object) -> list[bytes]:
        await asyncio.sleep(0.3)
        if not is_good:
            raise ImageError("no picture")
        return []

    monkeypatch.setattr("vlm_dlm_app.answering.intake.image_contents", slowly)
    monkeypatch.setattr("vlm_dlm_app.http.streaming.PATIENCE_S", 0.05)
    body = ASK if path == CHAT else {"prompt": "hi"}

    async def run() -> None:
        nonlocal is_good
        async with running(ScriptedModes(Script(WORDS))) as server:
            reply = await server.post(path, {**body, "stream": True})
            assert reply.status_code == 200
            samples = await figures(server)
            for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds"):
                assert 0.3 <= value(samples, f"{name}_sum") < 0.6
            assert value(samples, "request_queue_time_seconds_sum") < 0.3
            is_good = False
            reply = await server.post(path, {**body, "stream": True})
            assert (reply.status_code, json.loads(reply.text)["error"]["code"]) == (
                400,
                "bad_image",
            )

    asyncio.run(run())
