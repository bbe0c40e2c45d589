"""A server of the connection alone, and raw conversations with it."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from tests.api.serving import until
from vlm_dlm_app.wire.protocol import BoundedProtocol

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Answer:
    """One answer as it was sent, framed as its headers say."""

    status: int
    headers: dict[str, str]
    body: bytes


@contextmanager
def wire_server(
    app: Any, protocol: type[BoundedProtocol], keep_alive_s: int = 5, loop: str = "asyncio"
) -> Generator[int]:
    """The port it listens on, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app, http=protocol, loop=loop, ws="none", lifespan="off", log_config=None,
        access_log=False, timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()


def exchange(
    port: int,
    pieces: Sequence[bytes],
    *,
    shuts: bool = False,
    pause_s: float = 0.0,
    before_end_s: float = 0.0,
) -> bytes:
    """All that the server says until it closes the connection. shuts: say that no more comes, after
    before_end_s."""
    said = io.BytesIO()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, piece in enumerate(pieces):
                if number and pause_s:
                    time.sleep(pause_s)
                connection.sendall(piece)
            if shuts:
                time.sleep(before_end_s)
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                said.write(data)
        except ConnectionError:  # closed while we were still sending
            pass
    return said.getvalue()


def answers(said: bytes, is_head: bool = False) -> list[Answer]:
    """The answers in it, interim ones included. Fails where something is left over."""
    found: list[Answer] = []
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        matched = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*", lines[0])
        assert matched, lines[0]
        status = int(matched[1])
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        if status < 200 or is_head:
            body = b""
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body, said = said[:length], said[length:]
            assert len(body) == length
        elif headers.get("transfer-encoding") == "chunked":
            body, said = _dechunk(said)
        else:
            body, said = said, b""
        found.append(Answer(status, headers, body))
    return found


def _dechunk(said: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, said = said.partition(b"\r\n")
        number = int(size, 16)
        body += said[:number]
        assert said[number : number + 2] == b"\r\n"
        said = said[number + 2 :]
        if not number:
            return body, said
