"""An engine behind its waiting queue: admission, turns, deadlines, draining. One event loop.

Requests wait here and not in the engine, so that turns are fair and a caller who leaves costs the
engine nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic, perf_counter
from typing import cast

from vlm_dlm.engine.base import Engine
from vlm_dlm.errors import BadInputError, DeadlineError, QueueFullError, UnavailableError
from vlm_dlm.events import Failed, GenerationEvent, is_terminal
from vlm_dlm.request import GenerationRequest
from vlm_dlm.serving.drain_rate import DrainRate
from vlm_dlm.serving.fair_queue import FairQueue, Priority, Waiting

Turn = asyncio.Future[None]


class ServiceState(StrEnum):
    """Only READY takes new requests."""

    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Bounds of the queue. max_running: requests in the engine at once, None takes the engine's
    own limit. deadline_s: for requests that name none, None for no deadline."""

    max_waiting: int = 64
    max_waiting_tokens: int = 65536
    max_running: int | None = None
    deadline_s: float | None = 300.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request and what the queue must know of it. deadline_s: seconds from now for the whole
    answer, None takes the service's own."""

    request: GenerationRequest
    client: str = ""
    priority: Priority = Priority.INTERACTIVE
    deadline_s: float | None = None


class Service:
    """Runs as many requests as the engine takes; the others wait their turn."""

    def __init__(self, engine: Engine, config: ServiceConfig | None = None) -> None:
        self.engine = engine
        self.config = config or ServiceConfig()
        self.state = ServiceState.READY
        limit, wanted = engine.capabilities.max_running, self.config.max_running
        if wanted is not None and not 1 <= wanted <= limit:
            raise BadInputError(f"max_running is {wanted}; this engine runs 1 to {limit}")
        self.max_running = limit if wanted is None else wanted
        self.num_running = 0
        self.drain_rate = DrainRate()
        self._queue: FairQueue[Turn] = FairQueue(
            self.config.max_waiting, self.config.max_waiting_tokens
        )
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_waiting(self) -> int:
        return len(self._queue)

    @property
    def num_waiting_tokens(self) -> int:
        """Prompt tokens of the requests that wait."""
        return self._queue.num_tokens

    async def generate(self, ticket: Ticket) -> AsyncIterator[GenerationEvent]:
        """Events of one request, ending in exactly one Finished or Failed.

        Closing the iterator, or cancelling who iterates, takes the request out of the queue or
        aborts it. Raises, before any event: UnavailableError, QueueFullError, or DeadlineError for
        one that never got its turn; and what the engine refuses.
        """
        limit = self.config.deadline_s if ticket.deadline_s is None else ticket.deadline_s
        deadline_s = None if limit is None else monotonic() + limit
        await self._await_turn(ticket, deadline_s)
        try:
            # Engine.generate is an async generator in every engine; closing it aborts.
            stream = cast(
                AsyncGenerator[GenerationEvent, None], self.engine.generate(ticket.request)
            )
            async with aclosing(stream):
                while (event := await _next(stream, ticket.request, deadline_s)) is not None:
                    yield event
                    if is_terminal(event):
                        return
        finally:
            self._end_turn()

    async def drain(self, grace_s: float) -> bool:
        """Take nothing new and wait for what runs and waits. False if the grace was too short."""
        self.state = ServiceState.DRAINING
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def retry_after_s(self) -> int:
        """Whole seconds until those waiting now will have left."""
        return self.drain_rate.retry_after_s(len(self._queue), monotonic())

    async def _await_turn(self, ticket: Ticket, deadline_s: float | None) -> None:
        """Return once a slot is this request's. Leaves nothing behind if it never is."""
        if self.state is not ServiceState.READY:
            message = f"the service is {self.state} and takes no new requests"
            raise UnavailableError(message, self.retry_after_s())
        turn: Turn = asyncio.get_running_loop().create_future()
        num_tokens = len(ticket.request.prompt.token_ids)
        waiting = Waiting(turn, ticket.client, num_tokens, ticket.priority)
        if self.num_running < self.max_running and not len(self._queue):
            self._start(turn)
            return
        try:
            self._queue.push(waiting)
        except QueueFullError as error:
            error.retry_after_s = self.retry_after_s()
            raise
        self._idle.clear()
        try:
            async with asyncio.timeout_at(_loop_time(deadline_s)):
                await turn
        except BaseException as error:
            if not self._queue.remove(waiting) and turn.done() and not turn.cancelled():
                self._end_turn()  # the turn came in the same moment
            self._note_idle()
            if isinstance(error, TimeoutError):
                raise DeadlineError("the deadline passed while the request was waiting") from None
            raise

    def _start(self, turn: Turn) -> None:
        self.num_running += 1
        self._idle.clear()
        turn.set_result(None)

    def _end_turn(self) -> None:
        """A request left the engine: the next ones get their turn."""
        self.num_running -= 1
        self.drain_rate.note_end(monotonic())
        while self.num_running < self.max_running and (waiting := self._queue.pop()) is not None:
            if not waiting.item.done():
                self._start(waiting.item)
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.num_running and not len(self._queue):
            self._idle.set()


def _loop_time(deadline_s: float | None) -> float | None:
    """The moment on the event loop's clock."""
    if deadline_s is None:
        return None
    return asyncio.get_running_loop().time() + deadline_s - monotonic()


async def _next(
    stream: AsyncGenerator[GenerationEvent, None],
    request: GenerationRequest,
    deadline_s: float | None,
) -> GenerationEvent | None:
    """The next event, None behind the last, or Failed once the deadline has passed."""
    limit = asyncio.timeout_at(_loop_time(deadline_s))
    try:
        async with limit:
            return await anext(stream, None)
    except TimeoutError:
        if not limit.expired():  # the engine's own
            raise
        message = "the deadline passed before the answer was complete"
        return Failed(request.request_id, DeadlineError.code, message, perf_counter())
