"""A small HTTP client over plain sockets, so that tests can leave at any byte and measuring costs
little of the processor that the server needs.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Any

MAX_LINE_BYTES = 2**22
DONE = "[DONE]"
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer, names in lower case."""

    status: int
    headers: dict[str, str]


@dataclass(slots=True)
class Outcome:
    """How one request went, as its client saw it. Moments in seconds of `perf_counter`.

    status: 0 when the connection ended without an answer. head_s, first_s, last_s, end_s: status
    line, first and last content, end of the answer. max_gap_s: longest pause within the content.
    error: code of the error, from body or event. is_complete: the answer came whole: a body, or a
    stream with a finish reason and [DONE].
    """

    began_s: float
    status: int = 0
    head_s: float | None = None
    first_s: float | None = None
    last_s: float | None = None
    max_gap_s: float = 0.0
    end_s: float | None = None
    num_tokens: int = 0
    finish_reason: str | None = None
    error: str | None = None
    is_complete: bool = False
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_answered(self) -> bool:
        """Whether the client knows how it ended: whole, an error status or an error event."""
        return self.is_complete or self.error is not None


class Connection:
    """One connection that is kept alive. Not for several requests at once."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Raises OSError."""
        reader, writer = await asyncio.open_connection(host, port, limit=MAX_LINE_BYTES)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(reader, writer)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.leave()

    async def send(self, data: bytes) -> None:
        """Raises OSError."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        """The next answer's head. Raises EOFError if there is none."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return Head(int(first.split(" ", 2)[1]), headers)

    async def pieces(self, head: Head) -> AsyncGenerator[bytes, None]:
        """The body as it comes in. Raises EOFError if it is cut short."""
        if head.headers.get("transfer-encoding", "") != "chunked":
            length = int(head.headers.get("content-length", "0"))
            yield await self.reader.readexactly(length)
            return
        while size := int(await self._line(), 16):
            yield await self.reader.readexactly(size)
            await self._line()
        await self._line()

    async def body(self, head: Head) -> bytes:
        """The whole body. Raises EOFError if it is cut short."""
        return b"".join([piece async for piece in self.pieces(head)])

    async def events(self, head: Head) -> AsyncGenerator[str, None]:
        """The `data` of every event of a stream. Comments are left out."""
        rest = b""
        async for piece in self.pieces(head):
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                for line in block.split(b"\n"):
                    if line.startswith(b"data: "):
                        yield line[6:].decode()

    def stop_reading(self) -> None:
        """From now on nothing that comes is taken, until the other side's buffers are full."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    async def leave(self, is_reset: bool = False) -> None:
        """Close at once. is_reset: with a reset, as a process that dies may."""
        if is_reset:
            sock = self.writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def _line(self) -> str:
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the connection ended in the middle of an answer")
        return line.decode("latin-1").rstrip("\r\n")


def post(path: str, body: dict[str, Any] | bytes, key: str | None = None) -> bytes:
    """A whole POST of JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *(() if key is None else (f"Authorization: Bearer {key}",)),
        "",
        "",
    )
    return "\r\n".join(lines).encode() + data


async def ask(connection: Connection, request: bytes, outcome: Outcome | None = None) -> Outcome:
    """Send a chat request, read its answer, streamed or not. Never raises for what a server does.

    outcome: to be filled while the answer comes in; None makes one that begins now.
    """
    outcome = outcome or Outcome(perf_counter())
    # ValueError: what came back is no HTTP or no JSON
    with suppress(OSError, EOFError, ValueError, IndexError):
        await connection.send(request)
        head = await connection.head()
        outcome.status, outcome.head_s, outcome.headers = head.status, perf_counter(), head.headers
        if head.headers.get("content-type", "").startswith("text/event-stream"):
            await _read_stream(connection, head, outcome)
        else:
            _read_body(await connection.body(head), outcome)
    outcome.end_s = perf_counter()
    return outcome


async def ask_once(host: str, port: int, request: bytes, began_s: float | None = None) -> Outcome:
    """`ask` over a connection of its own. began_s: the moment from which times count, if that is
    not now."""
    outcome = Outcome(perf_counter() if began_s is None else began_s)
    try:
        connection = await Connection.open(host, port)
    except OSError:
        outcome.end_s = perf_counter()
        return outcome
    async with connection:
        return await ask(connection, request, outcome)


async def _read_stream(connection: Connection, head: Head, outcome: Outcome) -> None:
    async for data in connection.events(head):
        if data == DONE:
            outcome.is_complete = outcome.finish_reason is not None
            continue
        read_chunk(json.loads(data), outcome)


def read_chunk(chunk: dict[str, Any], outcome: Outcome) -> None:
    """Note what one chunk of a stream says."""
    if "error" in chunk:
        outcome.error = chunk["error"]["code"]
    if usage := chunk.get("usage"):
        outcome.num_tokens = usage["completion_tokens"]
    for choice in chunk.get("choices", ()):
        if text := choice.get("delta", {}).get("content"):
            _note_text(outcome, text, perf_counter())
        outcome.finish_reason = choice.get("finish_reason") or outcome.finish_reason


def _note_text(outcome: Outcome, text: str, now_s: float) -> None:
    if outcome.first_s is None:
        outcome.first_s = now_s
    if outcome.last_s is not None:
        outcome.max_gap_s = max(outcome.max_gap_s, now_s - outcome.last_s)
    outcome.last_s = now_s
    outcome.text += text


def _read_body(body: bytes, outcome: Outcome) -> None:
    reply = json.loads(body)
    outcome.is_complete = True
    if "error" in reply:
        outcome.error = reply["error"]["code"]
        return
    outcome.num_tokens = reply["usage"]["completion_tokens"]
    outcome.finish_reason = reply["choices"][0]["finish_reason"]
    outcome.text = reply["choices"][0]["message"]["content"]
