"""An engine in a process of its own, which is started again when it is lost.

Owns when a child is started and when that is given up. One child's life is `link.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from time import monotonic

from vlm_dlm.engine.base import Capabilities
from vlm_dlm.errors import VlmDlmError
from vlm_dlm.events import GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.engine_state import Phase
from vlm_dlm.serving.launch import Launch, read_capabilities
from vlm_dlm.serving.managed import (
    BROKEN,
    UNLOADABLE,
    Losses,
    RestartLimit,
    StatefulEngine,
    unavailable,
)
from vlm_dlm.serving.process.child import EngineChild
from vlm_dlm.serving.process.link import ChildExit, EngineLink, Heartbeat

logger = logging.getLogger(__name__)
RESTARTING = "the engine stopped and is being started again"
RETRY_S = 1.0  # after a process could not be started
NO_START = (OSError, RuntimeError)  # no memory, process number or thread left


class ProcessEngine(StatefulEngine):
    """Every stream ends in one terminal event, whatever happens to the child.

    capabilities: None reads them from the checkpoint, which may raise CheckpointError. has_spare:
    keep a second child with its imports done and no weights, which takes over when the first is
    lost; None: where imports take long. close_s: what running requests get at `close`.
    """

    def __init__(
        self,
        launch: Launch,
        capabilities: Capabilities | None = None,
        limit: RestartLimit | None = None,
        heartbeat: Heartbeat | None = None,
        has_spare: bool | None = None,
        close_s: float = 5.0,
    ) -> None:
        super().__init__()
        self._launch = launch
        self._capabilities = capabilities or read_capabilities(launch)
        self._limit = limit or RestartLimit()
        self._heartbeat = heartbeat or Heartbeat()
        self.has_spare = launch.engine == "torch" if has_spare is None else has_spare
        self._close_s = close_s
        self._losses = Losses(self._limit)
        self._spare: EngineChild | None = None
        self._link: EngineLink | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._spare_watch: asyncio.Task[None] | None = None
        self._is_closing = False

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def pid(self) -> int | None:
        """Of the child that serves or is about to, None while there is none."""
        return None if self._link is None else self._link.child.pid

    @property
    def spare_pid(self) -> int | None:
        return None if self._spare is None else self._spare.pid

    @property
    def num_streams(self) -> int:
        """Requests that the child has and that have not ended."""
        return 0 if self._link is None else self._link.num_streams

    async def start(self) -> None:
        self._supervisor = asyncio.create_task(self._supervise())
        if self.has_spare:
            self._spare_watch = asyncio.create_task(self._watch_spare())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        link = self._link
        if link is None or self.state.phase is not Phase.READY:
            raise unavailable(self.state)
        stream = link.open(request)
        del request  # and its pixels, which are on their way
        try:
            while True:
                item = await stream.items.get()
                if isinstance(item, VlmDlmError):
                    raise item
                yield item
                if is_terminal(item):
                    return
        finally:
            link.leave(stream)

    async def close(self) -> None:
        self._is_closing = True
        self._set(phase=Phase.CLOSED)
        if self._spare_watch is not None:
            self._spare_watch.cancel()
        if self._link is not None:
            await self._link.close(self._close_s)
        if self._supervisor is not None:
            await asyncio.wait({self._supervisor})
        await self._drop_spare()

    async def _supervise(self) -> None:
        try:
            while not self.state.is_final:
                try:
                    child = await self._next_child()
                except NO_START as error:  # perhaps only for now
                    self._judge(ChildExit("it cannot be started"), str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                if self._is_closing:
                    self._spare = child  # `close` ends it
                    return
                await self._run_child(child)
        except Exception:
            logger.exception("the engine cannot be kept running")
            self._link = None
            self._go_down(BROKEN)
        await self._drop_spare()

    async def _run_child(self, child: EngineChild) -> None:
        link = self._link = EngineLink(child, self._heartbeat, self._on_state, self._on_stall)
        try:
            ended = await link.run()
        finally:
            self._link = None
            if not self._is_closing:
                self._set(phase=Phase.LOADING, progress=0.0, reason=RESTARTING)
                self._tell_lost()
            ending = await child.reap()
        self._judge(ended, ending, child.last_lines)

    def _judge(self, ended: ChildExit, ending: str, lines: Iterable[str] = ()) -> None:
        """Log the loss, and start again or give up."""
        if self._is_closing:
            return
        if ended.refusal is not None:
            self._give_up(ended.refusal)
            return
        cause = f"{ended.cause} ({ending})" if ended.cause else ending
        logger.error("the engine process was lost: %s", cause)
        for line in lines:
            logger.error("it had written: %s", line)
        if self._losses.add():
            self._go_down(
                f"the engine stopped {len(self._losses)} times within {self._limit.window_s:g} s, "
                f"the last time: {ended.cause or ending}"
            )
        else:
            self._set(num_restarts=self.state.num_restarts + 1)

    def _give_up(self, refusal: VlmDlmError) -> None:
        """Another child could not run it either. Once one has run it, that is not the fault of
        whoever started this."""
        logger.error("the engine cannot be loaded: %s", refusal)
        if self.state.num_restarts == 0:
            self._refusal = refusal
        self._set_down(UNLOADABLE)

    def _go_down(self, reason: str) -> None:
        if self._is_closing:
            return
        logger.error("the engine stays down: %s", reason)
        self._set_down(reason)

    def _set_down(self, reason: str) -> None:
        self._set(phase=Phase.DOWN, progress=0.0, reason=reason)
        self._tell_lost()

    def _on_state(self, phase: Phase, progress: float, device: str, dtype: str) -> None:
        if self._is_closing:
            return
        if phase is Phase.READY:
            self._set(phase=phase, progress=1.0, device=device, dtype=dtype)
            self._add_spare()
        else:
            self._set(phase=phase, progress=progress)

    def _on_stall(self, reason: str) -> None:
        if reason and self.state.phase is Phase.READY:
            logger.warning("%s", reason)
            self._set(phase=Phase.STALLED, reason=reason)
        elif not reason and self.state.phase is Phase.STALLED:
            self._set(phase=Phase.READY, reason="")

    async def _next_child(self) -> EngineChild:
        """The spare if it is well, else a new one."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.has_ended:
            logger.warning("the spare engine process was lost: %s", await spare.reap())
            spare = None
        return spare or EngineChild(self._launch)

    def _add_spare(self) -> None:
        if self.has_spare and self._spare is None:
            try:
                self._spare = EngineChild(self._launch)
            except NO_START as error:  # the next loss takes a while longer, that is all
                logger.warning("no spare engine process: %s", error)

    async def _watch_spare(self) -> None:
        """Replace a spare that has ended, ever more slowly if one after another does."""
        pause_s = RETRY_S
        while not self.state.is_final:
            began_s = monotonic()
            while (spare := self._spare) is None or not spare.has_ended:
                await asyncio.sleep(self._heartbeat.ping_s)
            self._spare = None
            logger.warning("the spare engine process was lost: %s", await spare.reap())
            has_lasted = monotonic() - began_s > self._limit.window_s
            pause_s = RETRY_S if has_lasted else min(2 * pause_s, self._limit.window_s)
            await asyncio.sleep(pause_s)
            if self.state.phase is Phase.READY:
                self._add_spare()

    async def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()
            await spare.reap()
