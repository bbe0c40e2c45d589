"""Several engines as one: a table says which of them runs which mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace

from vlm_dlm.engine.base import Capabilities
from vlm_dlm.errors import ModeError, VlmDlmError
from vlm_dlm.events import GenerationEvent
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import EngineState, Phase
from vlm_dlm.serving.managed import ManagedEngine, OnLost

# From bad to good; a whole is as well as its worst part.
_ORDER = (Phase.CLOSED, Phase.DOWN, Phase.LOADING, Phase.WARMING, Phase.STALLED, Phase.READY)


class RoutedEngine(ManagedEngine):
    """routes: mode -> its engine, in the order in which modes are shown. A mode's requests are
    taken as long as its own engine takes them; the whole is ready when every engine is."""

    def __init__(self, routes: Mapping[str, ManagedEngine]) -> None:
        self._routes = dict(routes)
        self._parts = tuple(dict.fromkeys(routes.values()))
        self._capabilities = _joined(self._routes, self._parts)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def capabilities_of(self, mode: str) -> Capabilities:
        return self._route(mode).capabilities

    @property
    def state(self) -> EngineState:
        """The worst part's, its restarts those of all."""
        return replace(min(self._states, key=_rank), num_restarts=self._num_restarts)

    @property
    def refusal(self) -> VlmDlmError | None:
        """The first part's that has one."""
        found = (part.refusal for part in self._parts)
        return next((refusal for refusal in found if refusal is not None), None)

    def state_of(self, mode: str | None) -> EngineState:
        return max(self._states, key=_rank) if mode is None else self._route(mode).state

    @property
    def _states(self) -> tuple[EngineState, ...]:
        return tuple(part.state for part in self._parts)

    @property
    def _num_restarts(self) -> int:
        return sum(state.num_restarts for state in self._states)

    async def start(self) -> None:
        for part in self._parts:
            await part.start()

    async def wait_ready(self) -> None:
        await asyncio.gather(*(part.wait_ready() for part in self._parts))

    def on_lost(self, callback: OnLost) -> None:
        """Only when no part is left: who waits for another part is not concerned, and who waits
        for the lost one is told when the turn comes."""

        def tell() -> None:
            if all(state.phase is not Phase.READY for state in self._states):
                callback()

        for part in self._parts:
            part.on_lost(tell)

    def on_broken(self, callback: Callable[[], object]) -> None:
        for part in self._parts:
            part.on_broken(callback)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        part = self._route(request.mode)
        events = part.generate(request)
        del request  # its pixels are the part's
        async with aclosing(events):
            async for event in events:
                yield event

    async def close(self) -> None:
        await asyncio.gather(*(part.close() for part in self._parts))

    def _route(self, mode: str) -> ManagedEngine:
        part = self._routes.get(mode)
        if part is None:
            raise ModeError(f"mode {mode} is not offered; the modes are {', '.join(self._routes)}")
        return part


def _rank(state: EngineState) -> int:
    return _ORDER.index(state.phase)


def _joined(routes: Mapping[str, ManagedEngine], parts: tuple[ManagedEngine, ...]) -> Capabilities:
    """Cache is a matter of each part: turns are counted by `capabilities_of`."""
    all_of = [part.capabilities for part in parts]
    modes = {(part, info.name): info for part in parts for info in part.capabilities.modes}
    caches = [one.max_cache_tokens for one in all_of if one.max_cache_tokens is not None]
    return Capabilities(
        modes=tuple(modes[part, name] for name, part in routes.items()),
        max_context=min(one.max_context for one in all_of),
        max_running=sum(one.max_running for one in all_of),
        max_cache_tokens=min(caches, default=None),
        page_size=max(one.page_size for one in all_of),
        needs_pictures=any(one.needs_pictures for one in all_of),
    )
