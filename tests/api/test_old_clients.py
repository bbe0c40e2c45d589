"""Clients that speak HTTP/1.0, and those that say when they have sent all."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Generator

import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.api.serving import LiveServer, live_server, until
from tests.api.test_upgrades import echo
from tests.api.wire import answers, exchange, wire_server
from vlm_dlm.engine.scripted_engine import Script
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.wire import half_closed
from vlm_dlm_app.wire.protocol import BoundedProtocol

WORDS = ("There ", "is ", "one ", "red ", "circle.")


def chat(version: str = "1.1", *, is_stream: bool = False, extra: str = "") -> bytes:
    fields = {"messages": [{"role": "user", "content": "Hi"}], "stream": is_stream}
    body = json.dumps(fields)
    return (
        f"POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\n{extra}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.fixture(scope="module")
def slow_server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    with live_server(checkpoint, Settings(), Script(WORDS, step_s=0.2, max_running=4)) as running:
        yield running


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_who_sends_no_more_is_answered(
    slow_server: LiveServer, is_stream: bool, version: str
) -> None:
    (answer,) = answers(
        exchange(slow_server.port, [chat(version, is_stream=is_stream)], shuts=True)
    )
    assert answer.status == 200
    assert b"circle." in answer.body
    assert answer.body.endswith(b"data: [DONE]\n\n") == is_stream


def test_so_are_all_requests_of_such_a_client(slow_server: LiveServer) -> None:
    said = exchange(slow_server.port, [chat() + chat() + chat(is_stream=True)], shuts=True)
    assert [answer.status for answer in answers(said)] == [200, 200, 200]


def test_half_a_request_is_answered_so(slow_server: LiveServer) -> None:
    for sent, code in ((chat()[:-3], "client_left"), (chat()[:30], "bad_request")):
        (answer,) = answers(exchange(slow_server.port, [sent], shuts=True))
        assert answer.status == 400
        assert json.loads(answer.body)["error"]["code"] == code
    assert exchange(slow_server.port, [], shuts=True) == b""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_answer_that_is_just_given_arrives(loop: str) -> None:
    async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})

    sent = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with wire_server(at_once, BoundedProtocol, loop=loop) as port:
        for number in range(100):
            said = exchange(port, [sent], shuts=True, before_end_s=number % 10 * 0.0002)
            (answer,) = answers(said)
            assert answer.body == b"all"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_leaves_is_told_from_who_waits(checkpoint: Checkpoint, version: str) -> None:
    script = Script(WORDS, step_s=5.0, max_running=1)
    with live_server(checkpoint, Settings(), script) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(chat(version))
            until(lambda: server.services.service.num_running == 1)
        assert until(lambda: server.is_idle) < 1.0
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(chat(version))
            connection.shutdown(socket.SHUT_WR)
            until(lambda: server.services.service.num_running == 1)
            time.sleep(1.0)
            assert server.services.service.num_running == 1
        assert until(lambda: server.is_idle) < 10.0 if version == "1.1" else True


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_http_1_0_gets_no_chunks(server: LiveServer, is_stream: bool) -> None:
    (answer,) = answers(exchange(server.port, [chat("1.0", is_stream=is_stream)]))
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"
    if is_stream:
        assert answer.body.startswith(b"data: {")
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "".join(WORDS)


def test_http_1_0_may_keep_its_connection(server: LiveServer) -> None:
    kept = chat("1.0", extra="Connection: Keep-Alive\r\n")
    said = exchange(server.port, [kept, kept, chat("1.0", is_stream=True)], pause_s=0.2)
    first, second, last = answers(said)
    assert first.headers["connection"] == second.headers["connection"] == "keep-alive"
    assert last.body.endswith(b"data: [DONE]\n\n")


def test_http_1_0_expects_no_interim_answer(server: LiveServer) -> None:
    said = exchange(server.port, [chat("1.0", extra="Expect: 100-continue\r\n")])
    assert [answer.status for answer in answers(said)] == [200]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_both_loops_tell_them_apart(loop: str) -> None:
    left: list[str] = []

    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        """Answers after a while, unless its client leaves."""
        await receive()
        leaving = asyncio.ensure_future(receive())
        await asyncio.wait({leaving}, timeout=1.0)
        if leaving.done():
            left.append(scope["path"])
            return
        leaving.cancel()
        await echo(scope, nothing_more, send)

    async def nothing_more() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    with wire_server(patient, BoundedProtocol, loop=loop) as port:
        sent = b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n"
        (answer,) = answers(exchange(port, [sent], shuts=True))
        assert json.loads(answer.body)["path"] == "/waits"
        assert left == []
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.1)
        until(lambda: left == ["/left"], 0.8)


def test_who_waits_long_is_sent_interim_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_closed, "INTERIM_S", 0.3)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.0)
        await echo(scope, receive, send)

    with wire_server(slow, BoundedProtocol) as port:
        sent = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        *interim, final = answers(exchange(port, [sent], shuts=True))
        assert {answer.status for answer in interim} == {100}
        assert final.status == 200
        (only,) = answers(exchange(port, [sent.replace(b"1.1", b"1.0")], shuts=True))
        assert only.status == 200


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_who_leaves_a_silent_stream_is_noticed_and_who_waits_sees_no_probe(loop: str) -> None:
    left: list[str] = []

    async def rare(scope: Scope, receive: Receive, send: Send) -> None:
        """Begins, and goes on long after."""
        await receive()
        leaving = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        await asyncio.wait({leaving}, timeout=1.0)
        if leaving.done():
            left.append(scope["path"])
            return
        leaving.cancel()
        await send({"type": "http.response.body", "body": b"last"})

    with wire_server(rare, BoundedProtocol, loop=loop) as port:
        (answer,) = answers(exchange(port, [b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n"], shuts=True))
        assert answer.body == b"first last"
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: b"first" in connection.recv(65536))
        until(lambda: left == ["/left"], 0.8)
