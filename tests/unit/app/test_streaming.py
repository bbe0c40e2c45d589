"""Server-sent events without a server: what is sent, when, and what is closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import Request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from vlm_dlm.errors import EngineError, QueueFullError
from vlm_dlm_app.http.disconnect import while_connected
from vlm_dlm_app.http.streaming import DONE, KEEP_ALIVE, EventStreamResponse, primed, sse


class Source:
    """Chunks with a pause before each. is_closed: its generator has ended."""

    def __init__(self, *chunks: bytes | Exception, pause_s: float = 0.0) -> None:
        self.chunks = chunks
        self.pause_s = pause_s
        self.is_closed = False

    async def run(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self.chunks:
                await asyncio.sleep(self.pause_s)
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
        finally:
            self.is_closed = True


class Client:
    """The other side: leaves after `stay_s`."""

    def __init__(self, stay_s: float = 60.0) -> None:
        self.stay_s = stay_s
        self.messages: list[Any] = []

    async def receive(self) -> Any:
        await asyncio.sleep(self.stay_s)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def is_complete(self) -> bool:
        return self.messages[-1].get("more_body") is False


def answer(response: EventStreamResponse, client: Client) -> None:
    asyncio.run(response({"type": "http"}, client.receive, client.send))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.text())
@example(data="a\r\n\n\x0b\x85\u2028\ud800")
def test_an_event_is_one_event_whatever_is_in_it(data: str) -> None:
    event = sse({"data": data})
    assert event.isascii()
    assert event.splitlines() == [event[:-2], b""]
    assert json.loads(event.removeprefix(b"data: ")) == {"data": data}


def test_an_event_with_a_name() -> None:
    assert sse("x", "draft") == b"event: draft\ndata: x\n\n"
    assert sse("[DONE]") == DONE


def test_everything_is_sent_and_closed() -> None:
    source, client = Source(b"a", b"b"), Client()
    answer(EventStreamResponse(source.run()), client)
    assert client.body == b"ab"
    assert client.is_complete
    assert source.is_closed
    headers = dict(client.messages[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"content-length" not in headers


def test_silence_is_broken_by_comments() -> None:
    source, client = Source(b"a", b"b", pause_s=0.05), Client()
    answer(EventStreamResponse(source.run(), keep_alive_s=0.02), client)
    assert client.body.replace(KEEP_ALIVE, b"") == b"ab"
    assert 2 <= client.body.count(KEEP_ALIVE) <= 4


def test_who_leaves_in_a_silence_ends_the_work() -> None:
    source, client = Source(b"a", pause_s=60.0), Client(stay_s=0.01)
    answer(EventStreamResponse(source.run()), client)
    assert source.is_closed
    assert client.body == b""


@pytest.mark.parametrize("error", [EngineError("it broke"), RuntimeError("secret")])
def test_an_error_is_the_last_event(error: Exception) -> None:
    source, client = Source(b"a", error), Client()
    answer(EventStreamResponse(source.run()), client)
    first, second, rest = client.body.removeprefix(b"a").partition(DONE)
    assert json.loads(first.removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert (second, rest) == (DONE, b"")
    assert b"secret" not in client.body
    assert client.is_complete


def test_an_error_before_the_first_chunk_is_raised() -> None:
    async def run() -> None:
        source = Source(QueueFullError("full"))
        with pytest.raises(QueueFullError):
            await primed(source.run())
        assert source.is_closed

    asyncio.run(run())


def test_a_first_chunk_is_not_waited_for_longer_than_asked() -> None:
    async def run() -> list[bytes]:
        source = Source(b"a", b"b", pause_s=0.02)
        ready = await primed(source.run(), patience_s=0.001)
        chunks = [chunk async for chunk in ready]
        await ready.aclose()
        assert source.is_closed
        return chunks

    assert asyncio.run(run()) == [b"a", b"b"]


def test_nothing_at_all_is_an_empty_stream() -> None:
    async def run() -> list[bytes]:
        return [chunk async for chunk in await primed(Source().run())]

    assert asyncio.run(run()) == []


@pytest.mark.parametrize("is_started", [False, True])
def test_what_was_primed_is_closed_even_if_nobody_read_it(is_started: bool) -> None:
    async def run() -> None:
        source = Source(b"a", pause_s=0.0 if is_started else 60.0)
        ready = await primed(source.run(), patience_s=0.01)
        await ready.aclose()
        assert source.is_closed

    asyncio.run(run())


def test_leaving_while_primed_ends_the_work() -> None:
    async def run() -> None:
        source, client = Source(b"a", pause_s=60.0), Client(stay_s=0.01)
        request = Request({"type": "http", "method": "POST", "headers": []}, client.receive)
        with pytest.raises(ClientDisconnect):
            await while_connected(request, primed(source.run()))
        assert source.is_closed

    asyncio.run(run())


def test_work_that_is_done_in_time_is_handed_over() -> None:
    async def run() -> int:
        async def work() -> int:
            return 5

        request = Request({"type": "http", "method": "POST", "headers": []}, Client().receive)
        return await while_connected(request, work())

    assert asyncio.run(run()) == 5


def test_cancelling_the_one_who_waits_ends_the_work() -> None:
    async def run() -> None:
        source = Source(b"a", pause_s=60.0)
        request = Request({"type": "http", "method": "POST", "headers": []}, Client().receive)
        waiting = asyncio.ensure_future(while_connected(request, primed(source.run())))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert source.is_closed

    asyncio.run(run())
