"""Answers that are kept for all: taken whole, and sent to each as fast as it reads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vlm_dlm_app.page.collecting import collected
from vlm_dlm_app.page.documents import Documents
from vlm_dlm_app.page.packed import Packed

SCOPE = {
    "type": "http",
    "scheme": "http",
    "root_path": "",
    "headers": [(b"host", b"a"), (b"accept-encoding", b"gzip")],
}


def answering(status: int, body: bytes, *, is_whole: bool = True) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": not is_whole})

    return app


@pytest.mark.parametrize(("kind", "path"), [(Packed, "/assets/x.js"), (Documents, "/")])
@pytest.mark.parametrize(("status", "body"), [(404, b"none"), (503, b"x" * 900), (200, b"short")])
def test_who_takes_nothing_holds_up_nobody(kind: Any, path: str, status: int, body: bytes) -> None:
    async def run() -> None:
        app = kind(answering(status, body))
        scope = {**SCOPE, "path": path}

        async def never(message: Any) -> None:
            await asyncio.Event().wait()

        stuck = asyncio.create_task(app(scope, None, never))
        await asyncio.sleep(0.01)
        got: list[Any] = []

        async def send(message: Any) -> None:
            got.append(message)

        await asyncio.wait_for(app(scope, None, send), 5)
        assert got[0]["status"] == status
        assert b"".join(message["body"] for message in got[1:]) == body
        stuck.cancel()

    asyncio.run(run())


def test_it_is_sent_in_pieces() -> None:
    async def run() -> None:
        body = bytes(range(256)) * 1000
        answer = await collected(answering(200, body), SCOPE, None)  # pyright: ignore
        assert answer is not None
        got: list[Any] = []

        async def send(message: Any) -> None:
            got.append(message)

        await answer.send_to(send)
        assert b"".join(message["body"] for message in got[1:]) == body
        assert [message["more_body"] for message in got[1:]] == [True, True, True, False]

    asyncio.run(run())


def test_an_answer_that_breaks_off_is_none() -> None:
    half = answering(200, b"half", is_whole=False)
    assert asyncio.run(collected(half, SCOPE, None)) is None  # pyright: ignore
