"""A client who leaves stops the work, whatever state it is in."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.api.serving import LiveServer, data_uri, image_part, live_server, png, until
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.serving.pictures.decode_pool import DecodePool
from vlm_dlm_app.settings.model import Settings

# Generous, for busy machines; far below the step of the engine, which nobody may wait for.
LIMIT_S = 1.0
SLOW = Script(tuple("abcde"), step_s=5.0, max_running=1)


@pytest.fixture(scope="module")
def slow_server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint, Settings(), SLOW) as running:
        yield running


def request_bytes(is_stream: bool, has_image: bool = False, n: int = 1) -> bytes:
    content: list[Any] = [{"type": "text", "text": "Hi"}]
    if has_image:
        content.append(image_part(png()))
    fields = {"messages": [{"role": "user", "content": content}], "stream": is_stream, "n": n}
    body = json.dumps(fields).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def leave_when(
    server: LiveServer, request: bytes, is_so: Callable[[], bool], is_over: Callable[[], bool]
) -> float:
    """Sends the request, leaves once it is so; returns the seconds until it is over."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request)
        until(is_so)
    return until(is_over)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_leaving_while_the_answer_is_written(
    slow_server: LiveServer, is_stream: bool, n: int
) -> None:
    engine = slow_server.engine.inner
    num_aborted = engine.num_aborted
    took_s = leave_when(
        slow_server,
        request_bytes(is_stream, n=n),
        lambda: engine.num_running == 1,
        lambda: slow_server.is_idle,
    )
    assert took_s < LIMIT_S
    assert engine.num_aborted == num_aborted + 1


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_leaving_while_waiting(slow_server: LiveServer, is_stream: bool) -> None:
    service = slow_server.services.service
    num_before = len(slow_server.engine.requests)
    with socket.create_connection(("127.0.0.1", slow_server.port)) as first:
        first.sendall(request_bytes(is_stream))
        until(lambda: service.num_running == 1)
        took_s = leave_when(
            slow_server,
            request_bytes(is_stream),
            lambda: service.num_waiting == 1,
            lambda: service.num_waiting == 0,
        )
        assert service.num_running == 1
    until(lambda: slow_server.is_idle)
    assert took_s < LIMIT_S
    assert len(slow_server.engine.requests) == num_before + 1, "it never reached the engine"


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_leaving_while_an_image_is_decoded(
    slow_server: LiveServer, is_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_cancelled = 0

    async def never(*_: object, **__: object) -> None:
        nonlocal num_cancelled
        try:
            await asyncio.sleep(60)
        finally:
            num_cancelled += 1

    monkeypatch.setattr(DecodePool, "decode_to", never)
    preparer = slow_server.services.preparer
    took_s = leave_when(
        slow_server,
        request_bytes(is_stream, has_image=True),
        lambda: preparer.num_preparing == 1,
        lambda: slow_server.is_idle,
    )
    assert took_s < LIMIT_S
    assert num_cancelled == 1


@pytest.mark.parametrize("is_own", [True, False], ids=["the client's", "the server's"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/generate", "/v1/compare"])
def test_a_deadline_ends_what_is_being_prepared(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, path: str, is_own: bool
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(DecodePool, "decode_to", never)
    limit = {"deadline_s": 0.05} if is_own else {}
    if path == "/v1/chat/completions":
        body = {"messages": [{"role": "user", "content": [image_part()]}], **limit}
    else:
        body = {"prompt": "Hi", "images": [data_uri(png())], "options": limit}
    with live_server(checkpoint, Settings() if is_own else Settings(deadline_s=0.05)) as server:
        reply = server.http.post(f"{server.url}{path}", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (408, "deadline_exceeded")


def test_a_wait_begins_the_stream_with_comments(slow_server: LiveServer) -> None:
    """So that no proxy takes it for dead; nothing in them reaches a reader of events."""
    service = slow_server.services.service
    with (
        socket.create_connection(("127.0.0.1", slow_server.port)) as first,
        socket.create_connection(("127.0.0.1", slow_server.port)) as second,
    ):
        first.sendall(request_bytes(True))
        until(lambda: service.num_running == 1)
        second.sendall(request_bytes(True))
        second.settimeout(5)
        received = b""
        while b": keep-alive" not in received:
            received += second.recv(4096)
        assert received.startswith(b"HTTP/1.1 200")
        assert b"data:" not in received
    until(lambda: slow_server.is_idle)
