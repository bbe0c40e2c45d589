"""Streams of the page: they end when there is nothing to tell, and never within an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.held_bytes import HeldBytes, Hold
from vlm_dlm_app.page.boundary import HANDLER_KEY
from vlm_dlm_app.page.handlers import find_handler
from vlm_dlm_app.page.streams import Streams
from vlm_dlm_app.page.taking import let_go_of_sent, take

IDLE_S = 0.02
EVENT_ID = "0" * 32
EVENT = "data: " + "x" * 1000 + "\n\n"
HEARTBEAT_S = 0.005
HEARTBEAT = 'data: {"msg": "heartbeat"}\n\n'
CLOSE = 'data: {"msg": "close_stream"}\n\n'


held = HeldBytes(10_000, 100)


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """One event, then heartbeats, for ever."""

    async def events() -> AsyncIterator[str]:
        hold = Hold(held, "a")
        hold.grow_to(500)
        take(hold, 500)
        yield EVENT
        while True:
            let_go_of_sent()  # as whoever asks for more does
            await asyncio.sleep(HEARTBEAT_S)
            yield HEARTBEAT

    await StreamingResponse(events())(scope, receive, send)


async def heard(piece_s: float, path: str = "/gradio_api/queue/data") -> str:
    """The whole stream, as one reads it who takes so long for each piece."""
    got = bytearray()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        body = message.get("body", b"")
        for start in range(0, len(body), 100):
            await asyncio.sleep(piece_s)
            assert held.num_bytes == (500 if len(got) < len(EVENT) else 0)
            got.extend(body[start : start + 100])

    queue = SimpleNamespace(
        pending_messages_per_session={"s": None},
        pending_event_ids_session={"s": {EVENT_ID}},
        event_ids_to_events={},
    )
    blocks: Any = SimpleNamespace(_queue=queue)
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"session_hash=s" if "data" in path else b"",
        "asgi": {"spec_version": "2.3"},  # where a response ends in the middle of what it sends
        HANDLER_KEY: find_handler("GET", path),  # what is in the address was read there
    }
    async with asyncio.timeout(5):
        await Streams(told, blocks, 4, IDLE_S)(scope, receive, send)
    return got.decode().replace(HEARTBEAT, "")


def test_who_reads_slowly_gets_a_large_event_whole() -> None:
    assert asyncio.run(heard(IDLE_S)) == EVENT + CLOSE


def test_an_idle_stream_ends() -> None:
    assert asyncio.run(heard(0)) == EVENT + CLOSE


def test_the_stream_of_one_event_is_that_of_its_session() -> None:
    assert asyncio.run(heard(0, f"/gradio_api/call/chat/{EVENT_ID}")) == EVENT + CLOSE


def test_a_stream_that_breaks_off_as_another_ends_its_session_ends_whole() -> None:
    """Gradio makes an error of that, in the middle of an answer."""

    async def run(is_lost: bool) -> str:
        sessions = {"s": None}
        queue = SimpleNamespace(
            pending_messages_per_session=sessions,
            pending_event_ids_session={},
            event_ids_to_events={},
        )

        async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            if is_lost:
                sessions.clear()
            raise RuntimeError("404: Not Found")

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        got: list[bytes] = []

        async def send(message: Message) -> None:
            got.append(message.get("body", b""))

        path = "/gradio_api/queue/data"
        scope = {
            **{"type": "http", "method": "GET", "path": path, "query_string": b"session_hash=s"},
            HANDLER_KEY: find_handler("GET", path),
        }
        blocks: Any = SimpleNamespace(_queue=queue)
        await Streams(breaks, blocks, 4, IDLE_S)(scope, receive, send)
        return b"".join(got).decode()

    assert asyncio.run(run(True)) == "a" + CLOSE
    with pytest.raises(RuntimeError):
        asyncio.run(run(False))


def test_a_stream_whose_session_ends_before_it_begins_is_answered() -> None:
    async def run() -> None:
        sessions = {"s": None}
        queue = SimpleNamespace(
            pending_messages_per_session=sessions,
            pending_event_ids_session={},
            event_ids_to_events={},
        )

        async def late(scope: Scope, receive: Receive, send: Send) -> None:
            sessions.clear()
            assert await receive() == {"type": "http.disconnect"}
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            raise AssertionError(message)

        path = "/gradio_api/queue/data"
        scope = {
            **{"type": "http", "method": "GET", "path": path, "query_string": b"session_hash=s"},
            HANDLER_KEY: find_handler("GET", path),
        }
        blocks: Any = SimpleNamespace(_queue=queue)
        with pytest.raises(ApiError, match="nothing is known of that session"):
            await Streams(late, blocks, 4, IDLE_S)(scope, receive, send)

    asyncio.run(run())
