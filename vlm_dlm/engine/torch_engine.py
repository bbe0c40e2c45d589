"""Our own backend: an EngineCore in one thread, asyncio callers around it.

Commands go in through a queue, events come out through one queue per request. The thread sleeps
while there is nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from vlm_dlm.engine.base import ENGINE_FAILED, Capabilities, Engine, Progress
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.errors import EngineError, VlmDlmError
from vlm_dlm.events import Failed, GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest

logger = logging.getLogger(__name__)
Item = GenerationEvent | VlmDlmError
CLOSING = "the engine is shutting down"


@dataclass(frozen=True, slots=True)
class _Caller:
    """Where the events of one request go."""

    loop: asyncio.AbstractEventLoop
    items: asyncio.Queue[Item]

    def put(self, item: Item) -> None:
        _wake(self.loop, [(self.items, item)])


def _wake(loop: asyncio.AbstractEventLoop, items: list[tuple[asyncio.Queue[Item], Item]]) -> None:
    """Fill queues of a loop from another thread, with one call however many items there are."""
    # A loop that has been closed has no listener left; its request is aborted below anyway.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_put_all, items)


def _put_all(items: list[tuple[asyncio.Queue[Item], Item]]) -> None:
    for queue_of_caller, item in items:
        queue_of_caller.put_nowait(item)


class TorchEngine(Engine):
    """One thread owns the core; nothing else touches it."""

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._callers: dict[str, _Caller] = {}
        self._closing = threading.Lock()  # around the three below, and around taking a request
        self._is_closing = False
        self._is_broken = False
        self._on_broken: Callable[[], object] | None = None
        self._num_steps, self._longest_s = 0, 0.0
        self._is_busy = False
        self._thread = threading.Thread(target=self._loop, name="vlm-dlm-engine", daemon=True)
        self._thread.start()

    @property
    def capabilities(self) -> Capabilities:
        return self._core.config.capabilities(self._core.max_context)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        caller = _Caller(asyncio.get_running_loop(), asyncio.Queue())
        name = request.request_id
        if request.sampling.structure is not None:  # compiled here, not in the engine's own thread
            await asyncio.to_thread(self._core.rules_of, request.sampling)
        with self._closing:
            if self._is_closing:
                raise EngineError(CLOSING)
            self._commands.put(partial(self._submit, request, caller))
        del request  # the core lets go of its pixels once it has their features
        is_done = False
        try:
            while not is_done:
                item = await caller.items.get()
                if isinstance(item, VlmDlmError):
                    is_done = True
                    raise item
                is_done = is_terminal(item)
                yield item
        finally:
            if not is_done:
                self._commands.put(lambda: self._abort(name, caller))

    @property
    def progress(self) -> Progress:
        return Progress(self._num_steps, self._is_busy, self._longest_s)

    def on_broken(self, callback: Callable[[], object]) -> None:
        with self._closing:
            self._on_broken = callback
            is_broken = self._is_broken
        if is_broken:
            callback()

    async def close(self) -> None:
        self._stop_taking()
        self._commands.put(lambda: None)
        await asyncio.to_thread(self._thread.join)

    def _stop_taking(self) -> None:
        """What was taken before is in the queue of commands by then."""
        with self._closing:
            self._is_closing = True

    def _loop(self) -> None:
        has_failed = False
        try:
            while not self._is_closing:
                self._drain(is_blocking=not self._core.has_work)
                began_s = perf_counter()
                self._deliver(self._core.step())
                self._num_steps += 1
                self._longest_s = max(self._longest_s, perf_counter() - began_s)
        except Exception:
            logger.exception("the engine failed and runs nothing any more")
            has_failed = True
            self._fail_callers(ENGINE_FAILED)
        finally:
            self._stop_taking()
            self._drain(is_blocking=False)
            self._close_core()
            self._fail_callers("the engine failed while it was shutting down")  # who got no ending
        if has_failed:
            self._tell_broken()

    def _tell_broken(self) -> None:
        with self._closing:
            self._is_broken = True
            callback = self._on_broken
        if callback is not None:
            callback()

    def _drain(self, *, is_blocking: bool) -> None:
        """Run waiting commands; sleep for the first one where there is nothing else to do."""
        while True:
            self._is_busy = not is_blocking
            try:
                command = self._commands.get(block=is_blocking)
            except queue.Empty:
                return
            self._is_busy = True
            command()
            del command
            is_blocking = False

    def _submit(self, request: GenerationRequest, caller: _Caller) -> None:
        if self._is_closing:
            caller.put(EngineError(CLOSING))
            return
        try:
            self._core.submit(request)
        except VlmDlmError as error:
            caller.put(error)
            return
        except Exception:  # must not end the thread that serves everybody else
            logger.exception("a request could not be queued")
            caller.put(EngineError("the request could not be queued"))
            return
        self._callers[request.request_id] = caller

    def _abort(self, request_id: str, caller: _Caller) -> None:
        # The id may belong to a later request by now.
        if self._callers.get(request_id) is not caller:
            return
        try:
            self._deliver(self._core.abort(request_id))
        except Exception:  # must not end the thread that serves everybody else
            logger.exception("a request could not be aborted")
            self._callers.pop(request_id, None)

    def _deliver(self, events: list[GenerationEvent]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[Item], Item]]] = {}
        for event in events:
            caller = self._callers.get(event.request_id)
            if caller is None:
                continue
            if is_terminal(event):
                del self._callers[event.request_id]
            by_loop.setdefault(caller.loop, []).append((caller.items, event))
        for loop, items in by_loop.items():
            _wake(loop, items)

    def _fail_callers(self, message: str) -> None:
        callers, self._callers = self._callers, {}
        for request_id, caller in callers.items():
            caller.put(Failed(request_id, EngineError.code, message, perf_counter()))

    def _close_core(self) -> None:
        """End everything in the core."""
        try:
            self._deliver(self._core.close())
        except Exception:
            logger.exception("the engine could not be closed")
