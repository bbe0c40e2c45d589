"""A real server in a thread: the whole app over an engine that replays a script."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import openai
import uvicorn
from fastapi import FastAPI
from PIL import Image

from vlm_dlm.engine.base import Capabilities
from vlm_dlm.engine.scripted_engine import Script, ScriptedEngine
from vlm_dlm.events import GenerationEvent
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.managed import ManagedEngine, StatefulEngine
from vlm_dlm_app.main import create_app
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.state import Services
from vlm_dlm_app.wire.connections import Connections
from vlm_dlm_app.wire.protocol import bounded_protocol

PATIENCE_S = 10.0


class PlayedEngine(StatefulEngine):
    """Ready at once. script: may be changed between requests. requests: all that came. modes: those
    it has, None for all."""

    def __init__(self, script: Script | None = None, modes: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self._modes = modes
        self.inner = ScriptedEngine(script)
        self.requests: list[GenerationRequest] = []

    @property
    def capabilities(self) -> Capabilities:
        whole = self.inner.capabilities
        offered = (m for m in whole.modes if self._modes is None or m.name in self._modes)
        return replace(whole, modes=tuple(offered))

    def play(self, script: Script) -> None:
        self.inner.script = script
        self.requests.clear()

    def set_phase(self, phase: Phase, reason: str = "") -> None:
        self._set(phase=phase, reason=reason)

    def lose(self) -> None:
        """As when its process is lost."""
        self._set(phase=Phase.LOADING)
        self._tell_lost()

    async def start(self) -> None:
        self._set(phase=Phase.READY, progress=1.0, device="cpu", dtype="float32")

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        self.requests.append(request)
        events = self.inner.generate(request)
        async with aclosing(events):
            async for event in events:
                yield event

    async def close(self) -> None:
        self._set(phase=Phase.CLOSED)
        await self.inner.close()


class LiveServer:
    """Where it listens, and its parts, to be looked at only."""

    def __init__(self, app: FastAPI, engine: PlayedEngine, port: int) -> None:
        self.app = app
        self.engine = engine
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        # without TLS, whose certificates take longer to load than many requests
        self.http = httpx.Client(verify=False, timeout=20.0)

    @property
    def services(self) -> Services:
        return self.app.state.services

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client. No retries unless asked for."""
        values = {"api_key": "none", "max_retries": 0, "timeout": 20.0, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **values)

    @property
    def is_idle(self) -> bool:
        service = self.services.service
        counts = (service.num_running, service.num_waiting, self.engine.inner.num_running)
        return counts == (0, 0, 0) and self.services.preparer.num_preparing == 0


@contextmanager
def live_server(
    checkpoint: Checkpoint,
    settings: Settings | None = None,
    script: Script | None = None,
    engine: ManagedEngine | None = None,
    has_page: bool = False,
) -> Generator[LiveServer]:
    """Serves on a free port until the block ends. engine: in place of the played one."""
    played = PlayedEngine(script)
    settings = settings or Settings()
    app = create_app(settings, engine or played, checkpoint, has_page=has_page)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as vlm_dlm_app/server.py does
    registry = Connections(settings.max_connections, settings.max_client_connections)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings.send_s, registry),
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        running = LiveServer(app, played, listener.getsockname()[1])
        with running.http:
            yield running
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        listener.close()
        assert not thread.is_alive(), "the server does not stop"


def until(is_so: Callable[[], bool], limit_s: float = PATIENCE_S) -> float:
    """Wait for it; returns the seconds it took. Fails after `limit_s`."""
    began = time.perf_counter()
    while not is_so():
        assert time.perf_counter() - began < limit_s, "it did not happen"
        time.sleep(0.002)
    return time.perf_counter() - began


def png(width: int = 56, height: int = 42, color: str = "red") -> bytes:
    """A small picture as a file."""
    target = io.BytesIO()
    Image.new("RGB", (width, height), color).save(target, "PNG")
    return target.getvalue()


def data_uri(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def image_part(data: bytes | None = None) -> dict[str, Any]:
    """A content part that shows a picture."""
    return {"type": "image_url", "image_url": {"url": data_uri(data or png())}}
