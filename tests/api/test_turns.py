"""Bodies that are work out of all proportion to their size keep nobody else waiting."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Generator

import pytest
from starlette.types import Receive, Scope, Send

from tests.api.wire import answers, exchange, wire_server
from vlm_dlm_app.http.middleware.guard import Guard
from vlm_dlm_app.wire import framing
from vlm_dlm_app.wire.framing import MAX_SMALL_CHUNKS
from vlm_dlm_app.wire.protocol import BoundedProtocol

LIMIT_S = 0.05
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = GET + b"Transfer-Encoding: chunked\r\n\r\n"
TINY = b"1\r\nx\r\n"


class Turns:
    """Of the event loop: the longest, in seconds of the processor, as others also take its time."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._last_s = time.thread_time()
        self._is_over = False
        self._turn()

    def stop(self) -> float:
        self._is_over = True
        return self.longest_s

    def _turn(self) -> None:
        now_s = time.thread_time()
        self.longest_s = max(self.longest_s, now_s - self._last_s)
        self._last_s = now_s
        if not self._is_over:
            self._loop.call_soon(self._turn)


WATCHES: list[Turns] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, or after the body with its length."""
    length, has_more, said = 0, scope["method"] == "POST", None
    if scope["path"] == "/watch":
        WATCHES.append(Turns())
        said = b"watching"
    if scope["path"] == "/watched":
        said = b"%.4f" % WATCHES.pop().stop()
    while has_more:
        message = await receive()
        length += len(message.get("body", b""))
        has_more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said or b"%d" % length})


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest) -> Generator[int]:
    with wire_server(Guard(app), BoundedProtocol, loop=request.param) as found:
        yield found


def flood(port: int, head: bytes, piece: bytes, seconds: float = 0.7) -> None:
    """Send the piece again and again, as fast as it is taken."""
    blob, end_s = piece * (2**20 // len(piece)), time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        try:
            connection.sendall(head)
            while time.monotonic() < end_s:
                connection.sendall(blob)
        except OSError:
            return


def ask(port: int, path: bytes) -> bytes:
    said = exchange(port, [b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path])
    (answer,) = answers(said)
    return answer.body


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (CHUNKED, TINY),
        (POST, TINY),
        (CHUNKED, b"20\r\n" + b"x" * 32 + b"\r\n"),
        (CHUNKED, b"1;" + b"e" * 1000 + b"\r\nx\r\n"),
        (b"", CHUNKED + TINY * 400 + b"0\r\n\r\n"),
        (b"", GET + b"a:b\r\n" * 90 + b"\r\n"),
        (GET + b"Content-Length: 999999999999\r\n\r\n", b"\n" * 1000),
    ],
    ids=["answered", "read", "small", "extended", "pipelined", "headers", "plain"],
)
def test_nobody_waits(port: int, head: bytes, piece: bytes) -> None:
    said = ask(port, b"/watch")
    assert said == b"watching"
    flood(port, head, piece)
    longest_s = float(ask(port, b"/watched"))
    assert 0 < longest_s < LIMIT_S


def test_some_small_chunks_are_taken_and_many_are_not(port: int) -> None:
    some = TINY * (MAX_SMALL_CHUNKS // 2)
    (answer,) = answers(exchange(port, [POST + some + b"0\r\n\r\n"], shuts=True))
    assert answer.body == b"%d" % (MAX_SMALL_CHUNKS // 2)
    large = (b"100\r\n" + b"x" * 256 + b"\r\n") * 2 * MAX_SMALL_CHUNKS
    (answer,) = answers(exchange(port, [POST + large + b"0\r\n\r\n"], shuts=True))
    assert answer.body == b"%d" % (512 * MAX_SMALL_CHUNKS)


def test_lines_in_a_body_are_no_framing(port: int) -> None:
    body = b"\n" * 2**20
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    (answer,) = answers(exchange(port, [head + body], shuts=True))
    assert answer.body == b"%d" % len(body)


def test_a_body_that_nobody_waits_for_is_not_read_for_ever(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(framing, "MAX_DRAINED_BYTES", 2**20)
    began_s = time.monotonic()
    flood(port, GET + b"Content-Length: 999999999999\r\n\r\n", b"x" * 1000, seconds=10.0)
    assert time.monotonic() - began_s < 5.0
    last = GET + b"Content-Length: 500000\r\n\r\n" + b"x" * 500_000
    assert len(answers(exchange(port, [last, GET + b"\r\n"], shuts=True, pause_s=0.1))) == 2


def test_too_many_small_chunks_are_told(port: int) -> None:
    (answer,) = answers(exchange(port, [POST + TINY * 3 * MAX_SMALL_CHUNKS], shuts=True))
    assert answer.status == 400
    assert "chunks" in json.loads(answer.body)["error"]["message"]
