"""Readers who are slow, and those who do not read: each has its time, nothing is kept longer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tests.api.serving import LiveServer, live_server, until
from tests.api.wire import answers, wire_server
from tests.unit.app.page_records import make_record
from vlm_dlm.preflight import Checkpoint
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.wire.exchange import PIECE_BYTES
from vlm_dlm_app.wire.protocol import BoundedProtocol

pytestmark = pytest.mark.alone

SMALL, LARGE = 60_000, 4 * 2**20  # the first is less than one piece
SEND_S = 0.5
HAS_MCP = find_spec("mcp") is not None
over: list[str] = []


class Impatient(BoundedProtocol):
    send_s = SEND_S


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """So many bytes in one piece; the path says how many, and how they are framed."""
    _, framing, number = scope["path"].split("/")
    size = int(number)
    headers = [(b"content-length", number.encode())] if framing == "length" else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * size})
    over.append(scope["path"])


@pytest.fixture(scope="module")
def port() -> Generator[int]:
    with wire_server(app, Impatient) as number:
        yield number


def reader(
    port: int, target: str, version: str = "1.1", buffer: int = 4096, body: bytes | None = None
) -> socket.socket:
    """One whose system holds little for it, and who has asked."""
    connection = socket.socket()
    connection.settimeout(10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect(("127.0.0.1", port))
    method = "GET" if body is None else "POST"
    head = f"{method} {target} HTTP/{version}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "Accept: application/json, text/event-stream\r\n"
    connection.sendall(head.encode() + b"\r\n" + (body or b""))
    return connection


def rest_of(connection: socket.socket, pause_s: float = 0.0) -> bytes:
    said = bytearray()
    while data := connection.recv(PIECE_BYTES):
        said += data
        time.sleep(pause_s)
    return bytes(said)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", ["length", "open"])
@pytest.mark.parametrize("size", [0, PIECE_BYTES, PIECE_BYTES + 1, LARGE])
def test_an_answer_in_pieces_is_the_same(port: int, framing: str, version: str, size: int) -> None:
    with reader(port, f"/{framing}/{size}", version) as connection:
        (answer,) = answers(rest_of(connection))
    assert answer.body == b"x" * size


def test_a_large_answer_is_its_routes_until_it_is_read(port: int) -> None:
    over.clear()
    target = f"/length/{8 * LARGE}"  # more than the system takes in by itself
    with reader(port, target) as connection:
        assert connection.recv(15)
        time.sleep(SEND_S / 2)
        assert not over
        assert len(rest_of(connection)) > 8 * LARGE
    until(lambda: over == [target])


def test_who_reads_slowly_is_not_dropped(port: int) -> None:
    """It takes several times the limit for all of it, and less for each piece."""
    with reader(port, f"/length/{8 * LARGE}", buffer=2**16) as connection:
        began = time.monotonic()
        (answer,) = answers(rest_of(connection, pause_s=0.005))
    assert time.monotonic() - began > 2 * SEND_S
    assert len(answer.body) == 8 * LARGE


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> list[BoundedProtocol]:
    """The server's system holds little for its clients. Gives those of these connections that were
    lost."""
    made, gone = BoundedProtocol.connection_made, BoundedProtocol.connection_lost
    new: set[BoundedProtocol] = set()
    lost: list[BoundedProtocol] = []

    def connection_made(self: BoundedProtocol, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        new.add(self)
        made(self, transport)

    def connection_lost(self: BoundedProtocol, exc: Exception | None) -> None:
        gone(self, exc)
        if self in new:
            lost.append(self)

    monkeypatch.setattr(BoundedProtocol, "connection_made", connection_made)
    monkeypatch.setattr(BoundedProtocol, "connection_lost", connection_lost)
    return lost


def test_little_that_waits_has_the_time_limit_too(
    port: int, small_buffers: list[BoundedProtocol]
) -> None:
    """Less than a piece, of an answer that is given: a close would wait for it without end."""
    with reader(port, f"/length/{SMALL}"):
        until(lambda: len(small_buffers) == 1, 5)


@pytest.fixture(scope="module")
def server(checkpoint: Checkpoint) -> Generator[LiveServer]:
    settings = Settings(send_s=SEND_S, page_mcp=HAS_MCP)
    with live_server(checkpoint, settings, has_page=True) as running:
        until(lambda: "gradio_config" in running.http.get(f"{running.url}/").text, 60)
        yield running


@pytest.mark.parametrize("path", ["/", "/config", "/openapi.json"])
def test_large_answers_of_all_kinds_have_the_time_limit(
    server: LiveServer, small_buffers: list[BoundedProtocol], path: str
) -> None:
    with reader(server.port, path):
        until(lambda: len(small_buffers) == 1, 5)


def unaccounted(server: LiveServer, lost: list[BoundedProtocol], path: str, **body: Any) -> int:
    """Bytes of an answer that are of no account while nobody reads it."""
    sent = json.dumps(body).encode()
    with reader(server.port, path, body=sent) as connection:
        (whole,) = answers(rest_of(connection))
    until(lambda: len(lost) == 1)
    held = server.services.held
    with reader(server.port, path, body=sent) as connection:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        until(lambda: held.num_bytes > 0)
        missing = len(whole.body) - held.num_bytes
        until(lambda: len(lost) == 2, 5)
    until(lambda: held.num_bytes == 0)
    return missing


def test_a_report_that_nobody_reads_has_an_account(
    server: LiveServer, small_buffers: list[BoundedProtocol]
) -> None:
    assert unaccounted(server, small_buffers, "/page/report", record=make_record()) == 0


@pytest.mark.skipif(not HAS_MCP, reason="the package mcp is not installed")
def test_a_report_by_a_tool_has_an_account_too(
    server: LiveServer, small_buffers: list[BoundedProtocol]
) -> None:
    """It is in the answer twice."""
    params = {"name": "report", "arguments": {"record": make_record()}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    missing = unaccounted(server, small_buffers, "/gradio_api/mcp/", **message)
    assert 0 <= missing < 200  # what is around the result
