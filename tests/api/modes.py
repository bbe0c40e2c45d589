"""A server in this process whose modes follow scripts of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI

from vlm_dlm.engine.base import Capabilities
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.events import GenerationEvent
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.managed import ManagedEngine, StatefulEngine
from vlm_dlm.serving.queue.service import Service
from vlm_dlm_app.main import create_app
from vlm_dlm_app.settings.model import Settings

BASE_URL = "http://127.0.0.1"


class ScriptedModes(StatefulEngine):
    """`scripts`: by mode, where a mode's answer is to differ. requests: all that arrived."""

    def __init__(self, script: Script | None = None, **scripts: Script) -> None:
        super().__init__()
        self.plain = ScriptedEngine(script)
        self.own = {mode: ScriptedEngine(own) for mode, own in scripts.items()}
        self.requests: list[GenerationRequest] = []

    @property
    def capabilities(self) -> Capabilities:
        return self.plain.capabilities

    @property
    def num_running(self) -> int:
        return sum(engine.num_running for engine in self._engines)

    @property
    def num_aborted(self) -> int:
        return sum(engine.num_aborted for engine in self._engines)

    @property
    def _engines(self) -> list[ScriptedEngine]:
        return [self.plain, *self.own.values()]

    async def start(self) -> None:
        self._set(phase=Phase.READY, progress=1.0)

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self.requests.append(request)
        return self.own.get(request.mode, self.plain).generate(request)

    async def close(self) -> None:
        for engine in self._engines:
            await engine.close()


@cache
def embedded() -> Checkpoint:
    """The checkpoint's side files; no weights are loaded."""
    return open_checkpoint(None)


@dataclass(frozen=True, slots=True)
class Server:
    """An app that is ready, and a client of it. The client reads whole bodies only."""

    app: FastAPI
    http: httpx.AsyncClient

    @property
    def service(self) -> Service:
        return self.app.state.services.service

    async def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return await self.http.post(path, json=dict(body))

    async def answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        reply = await self.post(path, body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def error(self, path: str, body: Mapping[str, Any], status: int) -> dict[str, Any]:
        reply = await self.post(path, body)
        assert reply.status_code == status, reply.text
        return reply.json()["error"]

    async def events(self, path: str, body: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        reply = await self.post(path, {**body, "stream": True})
        assert reply.status_code == 200, reply.text
        return events_of(reply.text)

    async def leave_when(
        self, is_so: Callable[[], bool], path: str, body: Mapping[str, Any]
    ) -> None:
        """Post, and close the connection once it is so. Returns when the request is over."""
        content = json.dumps(dict(body)).encode()
        messages = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            while not is_so():
                await asyncio.sleep(0.002)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        headers = {"host": "127.0.0.1", "content-type": "application/json"}
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
            "http_version": "1.1",
        }
        await asyncio.wait_for(self.app(scope, receive, send), 30)


@asynccontextmanager
async def running(
    engine: ManagedEngine, settings: Settings | None = None
) -> AsyncGenerator[Server]:
    """The whole app around `engine`, with its middleware."""
    app = create_app(settings or Settings(), engine, embedded())
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=BASE_URL, timeout=60) as http,
    ):
        await engine.wait_ready()
        yield Server(app, http)


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(kind, data) of a stream's events, without [DONE] and comments."""
    found: list[tuple[str, dict[str, Any]]] = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines.get("data", "[DONE]") != "[DONE]":
            found.append((lines.get("event", ""), json.loads(lines["data"])))
    return found
