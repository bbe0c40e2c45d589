"""What the connection itself refuses, and what a log line may look like."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import threading
from collections.abc import Generator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tests.api.serving import until
from vlm_dlm_app.telemetry.logs import JsonFormatter, LineFormatter, WithoutRoot
from vlm_dlm_app.wire.protocol import BoundedProtocol
from vlm_dlm_app.wire.request_head import MAX_HEAD_BYTES


class Impatient(BoundedProtocol):
    head_s = 0.3
    send_s = 0.3


ended: list[str] = []


async def echo_length(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the number of bytes of the body; under /endless without an end."""
    if scope["path"] == "/endless":
        await endless(receive, send)
        return
    num, has_more = 0, True
    while has_more:
        message = await receive()
        num += len(message.get("body", b""))
        has_more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(num).encode()})


async def endless(receive: Receive, send: Send) -> None:
    """Sends until its reader has left."""
    await receive()
    left = asyncio.ensure_future(receive())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not left.done():
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await asyncio.sleep(0)
    ended.append(left.result()["type"])


@pytest.fixture(scope="module")
def port() -> Generator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        echo_length, http=Impatient, loop="asyncio", ws="none", lifespan="off",
        log_config=None, access_log=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until(lambda: server.started)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listener.close()


def talk(port: int, *pieces: bytes) -> bytes:
    """All that the server says until it closes the connection."""
    said = io.BytesIO()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                said.write(data)
        except ConnectionError:  # closed while we were still sending
            pass
    return said.getvalue()


def check_error(said: bytes, status: int, code: str) -> None:
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), said[:200]
    assert json.loads(body)["error"]["code"] == code
    assert b"nosniff" in head


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_our_form(port: int, head: bytes) -> None:
    check_error(talk(port, head), 400, "bad_request")


def test_a_refused_connection_has_an_id_and_a_line_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vlm_dlm_app.requests"):
        said = talk(port, b"NONSENSE\r\nX-Request-Id: mine\r\n\r\n")
    found = re.search(rb"X-Request-Id: ([0-9a-f]{32})\r\n", said)
    assert found
    (line,) = [
        record.getMessage() for record in caplog.records if record.name == "vlm_dlm_app.requests"
    ]
    assert line == f"request={found[1].decode()} status=400 cause=bad_request"


def test_a_large_head_is_refused_whole_or_in_pieces(port: int) -> None:
    line = b"X-A: " + b"a" * 1000 + b"\r\n"
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    check_error(talk(port, head + line * 80 + b"\r\n"), 431, "headers_too_large")
    said = talk(port, head + b"X-A: ", *([b"a" * 1000] * 200))
    assert said == b"" or b" 431 " in said  # it may close before we have sent all


def test_the_largest_head_is_taken(port: int) -> None:
    room = MAX_HEAD_BYTES - 200
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: " + b"a" * room + b"\r\n\r\n"
    assert talk(port, head).startswith(b"HTTP/1.1 200")


def test_a_long_body_is_no_head(port: int) -> None:
    num = 10 * MAX_HEAD_BYTES
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % num
    assert talk(port, head, b"x" * num).endswith(str(num).encode() + b"\r\n0\r\n\r\n")


def test_endless_trailers_end_the_connection(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: "
    talk(port, head, *([b"a" * 1000] * 200))  # returns: the server closed


def test_a_connection_that_sends_no_head_is_closed(port: int) -> None:
    assert talk(port) == b""
    assert talk(port, b"GET / HT") == b""


def test_a_reader_who_takes_nothing_is_dropped(port: int) -> None:
    ended.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: bool(ended))
    assert ended == ["http.disconnect"]


def test_a_second_slow_head_is_closed_too(port: int) -> None:
    said = talk(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x")
    assert said.count(b"HTTP/1.1 200") == 1


def test_a_slow_answer_is_not_closed() -> None:
    """The clock runs only while a head is awaited."""

    class Transport(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.is_closed = False

        def close(self) -> None:
            self.is_closed = True

        abort = close

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def is_closing(self) -> bool:
            return self.is_closed

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)

    async def run() -> bool:
        config = uvicorn.Config(slow, log_config=None, lifespan="off")
        config.load()
        protocol = Impatient(config, ServerState(), {})
        transport = Transport()
        protocol.connection_made(transport)
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.4)
        is_closed = transport.is_closed
        protocol.connection_lost(None)
        await asyncio.sleep(0.2)
        return is_closed

    assert not asyncio.run(run())


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("vlm_dlm_app", logging.INFO, __file__, 1, message, args, None)


def test_what_a_package_says_through_the_root_logger_is_not_quoted() -> None:
    root = logging.LogRecord("root", logging.WARNING, "/x/session.py", 7, "was: %s", ("hi",), None)
    assert WithoutRoot().filter(root)
    assert root.getMessage() == "a warning at session:7"
    ours = record("said %s", "hi")
    assert WithoutRoot().filter(ours)
    assert ours.getMessage() == "said hi"


def test_no_message_can_begin_a_line_of_its_own() -> None:
    forged = record("said %s", "hi\r\n2026 INFO forged\x1b[31m\u2028")
    assert len(LineFormatter("%(message)s").format(forged).splitlines()) == 1
    line = JsonFormatter().format(forged)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"].startswith("said hi\r\n")
