"""A real HTTP server that speaks as much of vLLM's interface as we use, from a script.

For the ways in which vLLM can fail, which the real one cannot be made to do on demand.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from vlm_dlm.processor.tokenizer import Tokenizer

END = 11
GENERATE = "/inference/v1/generate"


@dataclass(slots=True)
class Play:
    """What it does; may be changed while it runs.

    token_ids: of every answer. step_s: before each. statuses: path -> status and body in place of
    the real answer. break_after: tokens after which the connection is cut, hang_after: after
    which nothing comes any more, error_after: after which an error event comes. is_mute: nothing
    is answered at all. raw: events in place of an answer.
    """

    token_ids: tuple[int, ...] = (1401, 1300, 1486, 1309, END)
    step_s: float = 0.0
    statuses: dict[str, tuple[int, str]] = field(default_factory=dict[str, "tuple[int, str]"])
    break_after: int | None = None
    hang_after: int | None = None
    error_after: int | None = None
    is_mute: bool = False
    raw: tuple[str, ...] = ()
    model: str = "vlm-dlm"
    max_model_len: int = 4096
    shift: int = 0  # of the ids that /tokenize gives
    num_cached: int | None = 16


class FakeVllm:
    """url: where it listens. bodies: of all requests to generate. num_open, num_left: streams that
    are open, and those whose client left before the end. keys: every Authorization that came."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.play = Play()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.num_open = self.num_left = 0
        self._tokenizer = tokenizer
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> FakeVllm:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._connected, sock=self._listener)
        server = self._loop.run_until_complete(serving)
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request on a connection. False at its end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        path = lines[0].split(" ")[1]
        headers = {name.lower(): text for name, _, text in (s.partition(": ") for s in lines[1:])}
        self.keys.add(headers.get("authorization"))
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        body = json.loads(content) if content else {}
        while self.play.is_mute:
            await asyncio.sleep(0.01)
        if path in self.play.statuses:
            status, text = self.play.statuses[path]
            writer.write(_reply(status, text))
        elif path == GENERATE:
            self.bodies.append(body)
            if body.get("stream"):
                await self._stream(reader, writer)
                return False
            writer.write(_reply(200, json.dumps({"choices": [{"token_ids": [1]}]})))
        else:
            writer.write(_reply(200, json.dumps(self._plain(path, body))))
        await writer.drain()
        return True

    def _plain(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        play = self.play
        if path == "/v1/models":
            return {"data": [{"id": play.model, "max_model_len": play.max_model_len}]}
        if path == "/tokenize":
            ids = self._tokenizer.encode_text(body["prompt"])
            return {"tokens": [token_id + play.shift for token_id in ids]}
        return {}

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_open += 1
        watching = asyncio.create_task(reader.read())  # ends when the client leaves
        playing = asyncio.create_task(self._play_to(writer))
        try:
            await asyncio.wait({watching, playing}, return_when=asyncio.FIRST_COMPLETED)
            self.num_left += not playing.done()
        finally:
            self.num_open -= 1
            for task in (watching, playing):
                task.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await task

    async def _play_to(self, writer: asyncio.StreamWriter) -> None:
        play = self.play
        writer.write(_HEAD)
        if play.raw:
            for data in play.raw:
                _send(writer, data)
            writer.write(b"0\r\n\r\n")
            return await _flushed(writer)
        for number, token_id in enumerate(play.token_ids):
            await asyncio.sleep(play.step_s)
            if number == play.break_after:
                writer.transport.abort()
                return None
            if number == play.hang_after:
                await asyncio.Event().wait()
            if number == play.error_after:
                _send(writer, json.dumps({"error": {"message": "secret/path", "code": 500}}))
                break
            is_last = number == len(play.token_ids) - 1
            reason = None if not is_last else "stop" if token_id == END else "length"
            _send(writer, json.dumps(chunk([token_id], reason)))
            await writer.drain()
        else:
            details = {"cached_tokens": play.num_cached}
            usage = {"prompt_tokens_details": details if play.num_cached is not None else None}
            _send(writer, json.dumps({"choices": [], "usage": usage}))
        _send(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        return await _flushed(writer)


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """Everything is with the system; to close later loses nothing."""
    while writer.transport.get_write_buffer_size():
        await asyncio.sleep(0.001)


def chunk(token_ids: list[int], reason: str | None = None) -> dict[str, Any]:
    """One chunk as vLLM 0.32 sends it: every token with a probability of one half, and a margin
    of 0.5 to the second best."""
    best = math.log(0.5)
    content = [
        {
            "token_id": token_id,
            "logprob": best,
            "rank": 1,
            "top_logprobs": [
                {"token_id": token_id, "logprob": best, "rank": 1},
                {"token_id": 7, "logprob": best - 0.5, "rank": 2},
            ],
        }
        for token_id in token_ids
    ]
    choice = {
        "index": 0,
        "token_ids": token_ids,
        "finish_reason": reason,
        "stop_reason": None,
        "logprobs": {"content": content},
    }
    return {"request_id": "generate-tokens-1", "choices": [choice]}


@contextmanager
def fake_vllm(tokenizer: Tokenizer) -> Generator[FakeVllm]:
    with FakeVllm(tokenizer) as server:
        yield server


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _send(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")


def _reply(status: int, text: str) -> bytes:
    content = text.encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
