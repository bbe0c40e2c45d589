"""Which bodies are little work, and where the work on others is done."""

from __future__ import annotations

import asyncio
import json
import threading
from time import thread_time
from typing import Any

import pytest

from vlm_dlm_app.answering.conversation import conversation_of
from vlm_dlm_app.http.json_shape import check_shape
from vlm_dlm_app.http.parsing import SMALL_BYTES, BodyWorker, effort_of
from vlm_dlm_app.schemas.chat import ChatRequest

USER = {"role": "user", "content": "Hi"}


def body_of(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER]} | fields, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "body",
    [
        body_of(messages=[{"role": "user", "content": [""] * 1000}] * 20),
        body_of(messages=[{"role": "user", "content": [{}] * 1000}] * 20),
        body_of(messages=[{"role": "user", "images": ["a"] * 1000}] * 15),
        body_of(metadata=[[]] * 20_000),
        body_of(messages=[USER] * 1000),
    ],
)
def test_small_bodies_of_many_values_are_much_work(body: bytes) -> None:
    assert len(body) < SMALL_BYTES < effort_of(body)


def test_usual_bodies_are_little_work() -> None:
    text = "One, two, three: a sentence as any other, with commas, of which few are needed. "
    uri = "data:image/png;base64," + "A" * 40_000
    picture = {"type": "image_url", "image_url": {"url": uri}}
    for content in (text * 100, [{"type": "text", "text": text}, picture]):
        body = body_of(messages=[{"role": "user", "content": content}], max_tokens=5)
        assert effort_of(body) <= SMALL_BYTES


def test_what_is_done_at_once_takes_milliseconds() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": ""}] * 20}] * 14
    body = body_of(messages=messages)
    assert SMALL_BYTES * 0.8 < effort_of(body) <= SMALL_BYTES
    began_s = thread_time()
    check_shape(body, 32)
    conversation_of(ChatRequest.model_validate_json(body).messages)
    assert thread_time() - began_s < 0.05


def test_the_worker_is_another_thread() -> None:
    worker = BodyWorker()

    async def run() -> list[str]:
        def name() -> str:
            return threading.current_thread().name

        return [await worker.run("a", size, name) for size in (SMALL_BYTES, SMALL_BYTES + 1)]

    here, there = asyncio.run(run())
    worker.close()
    assert here == threading.current_thread().name
    assert there.startswith("bodies")


def test_nobody_waits_for_the_megabytes_of_another() -> None:
    worker, is_done = BodyWorker(), threading.Event()

    async def run() -> bool:
        large = asyncio.create_task(worker.run("a", 2**20, lambda: is_done.wait(10)))
        await asyncio.sleep(0)
        await worker.run("b", 2**17, is_done.set)
        return await large

    assert asyncio.run(run())
    worker.close()
