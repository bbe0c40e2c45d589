"""An engine in this process, loaded in a thread: for `--single-process` and tests.

A crash of the engine is a crash of the server here; that is what `process/engine.py` is for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from vlm_dlm.engine.base import Capabilities, Engine
from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch, read_capabilities
from vlm_dlm.serving.loading import load_engine, prepare, warm_up, with_tensors
from vlm_dlm.serving.managed import BROKEN, UNLOADABLE, StatefulEngine, unavailable

logger = logging.getLogger(__name__)


class LocalEngine(StatefulEngine):
    """capabilities: None reads them from the checkpoint, which may raise CheckpointError."""

    def __init__(self, launch: Launch, capabilities: Capabilities | None = None) -> None:
        super().__init__()
        self._launch = launch
        self._capabilities = capabilities or read_capabilities(launch)
        self._engine: Engine | None = None
        self._loading: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def engine(self) -> Engine | None:
        """What runs the requests, None before it is loaded."""
        return self._engine

    async def start(self) -> None:
        self._loading = asyncio.create_task(self._load())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        if self._engine is None or self.state.phase is not Phase.READY:
            raise unavailable(self.state)
        if self._launch.engine == "torch":
            request = with_tensors(request)
        events = self._engine.generate(request)
        del request  # its pixels are the engine's
        async with aclosing(events):
            async for event in events:
                yield event

    async def close(self) -> None:
        self._set(phase=Phase.CLOSED)
        if self._loading is not None:  # a thread that loads cannot be interrupted
            await asyncio.wait({self._loading})
        if self._engine is not None:
            await self._engine.close()

    async def _load(self) -> None:
        try:
            checkpoint = await asyncio.to_thread(prepare, self._launch)
            progress = self._progress(Phase.LOADING)
            loaded = await asyncio.to_thread(load_engine, self._launch, checkpoint, progress)
            self._engine = loaded.engine
            await warm_up(loaded, self._progress(Phase.WARMING))
        except Exception as error:
            if isinstance(error, VlmDlmError) and not isinstance(error, EngineError):
                self._refusal = error
                logger.error("the engine cannot be loaded: %s", error)
            else:
                logger.exception("the engine cannot be loaded")
            self._move(Phase.DOWN, 0.0, reason=UNLOADABLE)
        else:
            self._move(Phase.READY, 1.0, device=loaded.device, dtype=loaded.dtype)
            loop = asyncio.get_running_loop()
            loaded.engine.on_broken(partial(loop.call_soon_threadsafe, self._on_broken))

    def _progress(self, phase: Phase) -> Callable[[float], None]:
        loop = asyncio.get_running_loop()

        def tell(progress: float) -> None:
            loop.call_soon_threadsafe(self._move, phase, progress)

        return tell

    def _on_broken(self) -> None:
        """Whoever runs the server must start it again."""
        if not self.state.is_final:
            self._move(Phase.DOWN, 0.0, reason=BROKEN)
            self._tell_lost()

    def _move(self, phase: Phase, progress: float, **more: str) -> None:
        """Late news from a thread change nothing once it is closed."""
        if not self.state.is_final:
            self._set(phase=phase, progress=progress, **more)
