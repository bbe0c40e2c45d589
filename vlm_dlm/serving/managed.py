"""An engine with a life of its own: it loads after it is built, and may be lost and come back."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from vlm_dlm.engine.base import Engine
from vlm_dlm.errors import UnavailableError, VlmDlmError
from vlm_dlm.serving.engine_state import EngineState, Phase

OnLost = Callable[[], None]
UNLOADABLE = "the engine cannot be loaded; the server's log says why"
BROKEN = "the engine cannot be kept running; the server's log says why"


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """What was lost `max_losses` times within `window_s` seconds is not started again."""

    max_losses: int = 5
    window_s: float = 120.0


class Losses:
    """The moments of those within the window of a limit."""

    def __init__(self, limit: RestartLimit) -> None:
        self.limit = limit
        self._moments: deque[float] = deque()

    def add(self) -> bool:
        """One more, now; returns whether that is one too many."""
        now_s = monotonic()
        self._moments.append(now_s)
        while now_s - self._moments[0] > self.limit.window_s:
            self._moments.popleft()
        return len(self._moments) >= self.limit.max_losses

    def __len__(self) -> int:
        return len(self._moments)


class ManagedEngine(Engine):
    """`capabilities` are known as soon as it is built; requests are taken once it is READY.

    One event loop owns it: `start`, `generate` and `close` are called there, and so are callbacks.
    """

    @property
    @abstractmethod
    def state(self) -> EngineState:
        """How it is doing now. A new value at every change; never waits."""

    @property
    def refusal(self) -> VlmDlmError | None:
        """Why it is DOWN, where its first load found that what it was told to run cannot be run:
        a checkpoint that does not fit, say. Whoever started it can then only start another."""
        return None

    def state_of(self, mode: str | None) -> EngineState:
        """How what runs this mode is doing; None: what is doing best, where several run."""
        del mode  # for engines of several parts
        return self.state

    @abstractmethod
    async def start(self) -> None:
        """Begin to load and return at once; `state` tells the rest. To be called once."""

    @abstractmethod
    async def wait_ready(self) -> None:
        """Return once it is READY. Raises UnavailableError once it is DOWN or CLOSED."""

    @abstractmethod
    def on_lost(self, callback: OnLost) -> None:
        """Call `callback` whenever what serves requests is lost, before it is back.

        Requests that were running get their own Failed; this is for those that still wait.
        """


class StatefulEngine(ManagedEngine):
    """The part of a managed engine that has nothing to do with where it runs."""

    def __init__(self) -> None:
        self._state = EngineState()
        self._refusal: VlmDlmError | None = None
        self._changed = asyncio.Event()
        self._callbacks: list[OnLost] = []

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def refusal(self) -> VlmDlmError | None:
        return self._refusal

    async def wait_ready(self) -> None:
        while self._state.phase is not Phase.READY:
            if self._state.is_final:
                raise unavailable(self._state)
            await self._changed.wait()

    def on_lost(self, callback: OnLost) -> None:
        self._callbacks.append(callback)

    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._changed.set()
        self._changed = asyncio.Event()

    def _tell_lost(self) -> None:
        for callback in self._callbacks:
            callback()


def unavailable(state: EngineState) -> UnavailableError:
    """Why an engine in this state takes no request, and when to come back."""
    if state.is_final:
        reason = state.reason or "the server is shutting down"
        return UnavailableError(f"the model is not available: {reason}", state.retry_after_s)
    if state.phase is Phase.STALLED:
        return UnavailableError(f"{state.reason}; try again soon", state.retry_after_s)
    cause = f" ({state.reason})" if state.reason else ""
    return UnavailableError(
        f"the model is being loaded{cause}; try again soon", state.retry_after_s
    )
